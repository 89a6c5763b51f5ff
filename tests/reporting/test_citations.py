"""Citations as BibTeX: every shipped one is an article, and none is lost."""

from pathlib import Path

import pytest
import yaml

from tltool.reporting.citations import entries

CONFIGS = Path(__file__).parents[2] / "configs"


def test_an_article() -> None:
    text = "Doe, van Poe, J. Res. A 12, 345 (2020), doi:10.1000/a_b"
    assert entries([text, text]) == (
        "@article{Doe2020,\n  author = {Doe and van Poe},\n  journal = {J. Res. A},\n  volume = {12},\n"
        "  pages = {345},\n  year = {2020},\n  doi = {10.1000/a_b},\n}"
    )


def test_keys_differ_and_other_texts_are_notes() -> None:
    both = entries(["Doe, J. 1, 2 (2020)", "Doe, J. 3, 4 (2020)", "Private & secret_data {2020}"])
    assert "@article{Doe2020," in both
    assert "@article{Doe2020-2," in both
    assert "note = {Private \\& secret\\_data \\{2020\\}}," in both


@pytest.mark.parametrize("file", sorted((CONFIGS / "data").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_citation_is_an_article(file: Path) -> None:
    citation = yaml.safe_load(file.read_text(encoding="utf-8")).get("citation")
    if citation:
        found = entries([citation])
        assert found.startswith("@article{")
        assert all(f"  {name} = " in found for name in ("author", "journal", "volume", "pages", "year", "doi"))
