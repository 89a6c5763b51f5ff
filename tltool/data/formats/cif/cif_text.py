"""Split the bytes of a CIF into data blocks, each as {tag: values}; this covers characters and grammar only.

Tags are in small letters with ``_`` for ``.``. The encoding does not affect the result: letters beyond ASCII are
replaced. gemmi splits the text. If gemmi rejects it, pymatgen's more tolerant tokeniser reads it, and the block records
this.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tltool.errors import DataError

_UTF_16 = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_MINUS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-") | {0x2044: "/", 0x00D7: "x", 0xFEFF: ""}
_PLAIN = bytes([9, 10, 13, *range(32, 127)])
_BAR = re.compile("(\\d)[\u0304\u0305]")
_OTHER = re.compile(r"[^\t\n\r -~]")
_COORDINATES = tuple(f"_atom_site_{kind}_{axis}" for kind in ("fract", "cartn") for axis in "xyz")
_CORE = (
    "_cell_length_", "_cell_angle_", "_cell_formula_units_z", "_symmetry_", "_space_group_", "_atom_site_",
    "_chemical_formula_sum",
)  # fmt: skip


class Block(NamedTuple):
    """A data block: its ``name``, the ``values`` of each tag, and the ``reader`` if it was not gemmi."""

    name: str
    values: Mapping[str, Sequence[str]]
    reader: str


def blocks(data: bytes, where: str) -> list[Block | DataError]:
    """Return the blocks with atom sites, in the order of the text; a wrong block is replaced by its error.

    Raise DataError naming ``where`` if no block has sites, or if the text is not a CIF.
    """
    text = decoded(data)
    found = _by_gemmi(text, where)
    if isinstance(found, DataError):
        if not re.search(r"_atom_site[_.]", text, re.IGNORECASE):
            raise DataError(f"{where}: contains no atom sites; give a CIF file with a structure.")
        found = _by_pymatgen(text, where) or [found]
    found = [block for block in found if isinstance(block, DataError) or block.values.keys() & set(_COORDINATES)]
    if not found:
        raise DataError(f"{where}: contains no atom sites; give a CIF file with a structure.")
    return found


def decoded(data: bytes) -> str:
    """Return the text of ``data`` in ASCII, with the common minus sign and blank for their Unicode variants.

    Every other character beyond ASCII becomes ``~``; none of them belongs to a crystal structure.
    """
    if data.isascii() and not data.translate(None, _PLAIN):
        return data.decode("ascii")
    for begin, encoding in _UTF_16:
        if data.startswith(begin):
            text = data.decode(encoding, "replace")
            break
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    if not text.isascii():
        text = _BAR.sub(r"-\1", unicodedata.normalize("NFKC", _BAR.sub(r"-\1", text.translate(_MINUS))))
    return _OTHER.sub("~", text.rstrip("\x00\x1a \t\r\n") + "\n")


def _by_gemmi(text: str, where: str) -> list[Block | DataError] | DataError:
    from gemmi import cif

    try:
        # Level 0: two blocks of one name are two crystals, not a mistake.
        document = cif.read_string(text, 0)
    except (ValueError, RuntimeError) as error:
        return _no_cif(where, str(error))
    named = [(block.name, where if len(document) == 1 else f"{where}, block {block.name}") for block in document]
    return [_block(block, name, place) for block, (name, place) in zip(document, named, strict=True)]


def _block(block: "object", name: str, where: str) -> Block | DataError:
    values: dict[str, Sequence[str]] = {}
    for item in block:  # type: ignore[attr-defined]
        if (pair := item.pair) is not None:
            columns = [(pair[0], [pair[1]])]
        elif (loop := item.loop) is not None:
            tags, words = loop.tags, loop.values
            columns = [(tag, words[n :: len(tags)]) for n, tag in enumerate(tags)]
        else:
            continue
        for word, column in columns:
            tag = word.lower().replace(".", "_")
            if values.setdefault(tag, column) is not column and tag.startswith(_CORE) and values[tag] != column:
                return DataError(
                    f"{where}: has {word} twice with different values (first {plain(values[tag][0])!r}); keep the "
                    "right one."
                )
    return Block(name, values, "")


def _by_pymatgen(text: str, where: str) -> list[Block | DataError]:
    """Return the blocks that pymatgen's tokeniser finds in an invalid CIF; the list may be empty."""
    from pymatgen.io.cif import CifBlock

    found: list[Block | DataError] = []
    for piece in re.split(r"(?im)^(?=\s*data_)", text):
        if not re.match(r"\s*data_\S*", piece, re.IGNORECASE) or "_atom_site_" not in piece.lower():
            continue
        try:
            data = CifBlock.from_str(piece.strip()).data
        except Exception:  # it raises anything on damaged text
            return []
        values = {
            tag.lower().replace(".", "_"): [str(word) for word in (value if isinstance(value, list) else [value])]
            for tag, value in data.items()
        }
        found.append(Block(piece.split()[0][5:], values, "pymatgen"))
    return found


def _no_cif(where: str, cause: str) -> DataError:
    line = re.match(r"\w+:(\d+)", cause)
    place = f" near line {line[1]}" if line else ""
    if "number of values" in cause:
        return DataError(f"{where}: a row of a loop is incomplete ({place.strip()}); add the missing values.")
    return DataError(f"{where}: cannot be read as a CIF (syntax error{place}); repair or remove it.")


def plain(word: str) -> str:
    """Return a value without its quotes and line breaks."""
    if word[:1] in ("'", '"', ";"):
        from gemmi import cif

        return " ".join(str(cif.as_string(word)).split())
    return word


def is_given(word: str) -> bool:
    """Return whether a value is given: it is neither ``?`` (unknown) nor ``.`` (not applicable)."""
    return word not in ("?", ".", "")


def number(word: str) -> float:
    """Return the number in a word of a CIF, without its uncertainty; NaN if it is not a number."""
    try:
        return float(word) if word[-1:] != ")" and "_" not in word else _number(word)
    except ValueError:
        return _number(word)


def column(words: Sequence[str]) -> list[float]:
    """Return the numbers of a column, as ``number`` does."""
    text = "".join(words)
    if "_" not in text and "(" not in text:
        try:
            return list(map(float, words))
        except ValueError:
            pass
    return [number(word) for word in words]


def _number(word: str) -> float:
    from gemmi import cif

    return float(cif.as_number(plain(word).removesuffix("()")))
