"""Convert citations of data YAMLs to BibTeX entries."""

import re
from collections.abc import Iterable

_ARTICLE = re.compile(
    r"(?P<author>.+?), (?P<journal>[A-Z0-9][^,]*?) (?P<volume>\d+), (?P<pages>\w[\w-]*) \((?P<year>\d{4})\)"
    r"(?:, doi:(?P<doi>\S+))?\.?"
)
_WORDS = {"\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}", "~": r"\textasciitilde{}"}
_SPECIAL = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | _WORDS)


def entries(citations: Iterable[str]) -> str:
    """Return the BibTeX entries of ``citations``, without duplicates, with unique keys.

    "Doe, Poe, J. Res. 1, 23 (2020), doi:10.1/x" becomes an article; any other text becomes a note.
    """
    found: dict[str, str] = {}
    for text in dict.fromkeys(part for c in citations for part in " ".join(c.split()).split("; ")):
        article = _ARTICLE.fullmatch(text)
        facts = {k: v for k, v in article.groupdict().items() if v} if article else {"note": text}
        if article:
            # "and others" and "and Poe" are BibTeX already.
            facts["author"] = re.sub(r", (?!and )", " and ", facts["author"]).replace(", and ", " and ")
        first = re.sub(r"\W", "", facts.get("author", text).split(" and ")[0].split()[-1]) or "source"
        key = stem = f"{first}{facts.get('year', '')}"
        n = 1
        while key in found:
            n += 1
            key = f"{stem}-{n}"
        lines = [
            f"  {name} = {{{value if name == 'doi' else value.translate(_SPECIAL)}}}," for name, value in facts.items()
        ]
        found[key] = "\n".join([f"@{'article' if article else 'misc'}{{{key},", *lines, "}"])
    return "\n\n".join(found.values())
