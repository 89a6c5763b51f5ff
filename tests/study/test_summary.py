"""The statistics of finished cells: pairs, verdicts, laws of pretraining rows, claims, and the words for them."""

import math
from pathlib import Path

import pytest
from study_rows import axes, row, rows

from tltool.reporting.render.blocks import Grid, Heading, Picture
from tltool.study.axes import Claim
from tltool.study.differences import compare
from tltool.study.page import compose as page
from tltool.study.page import figures, names, slopes, wording
from tltool.study.summary import Summary, summarise

MODES = {"scratch": {}, "tuned": {"mode": "finetune"}}


def summary(found: list, **changes: object) -> Summary:
    given = {"targets": {"gaps": {}}, "modes": MODES, "sources": {"pbe": {"source": "bundled"}}, "claims": []}
    return summarise(axes(**given | changes), found)


def test_a_mode_is_compared_on_the_same_rows_only() -> None:
    found = compare(rows(), "scratch")
    assert [(one.kind.size, one.n, one.verdict) for one in found] == [(n, 6, "better") for n in (50, 100, 200)]
    assert all(one.relative == pytest.approx(-0.2, abs=0.05) for one in found)
    other = [row("scratch", 50, 0, 0.2), row("tuned", 50, 0, 0.1, identity={"train": "other rows"})]
    assert compare(other, "scratch") == []
    assert compare([row("tuned", 50, 0, 0.1)], "scratch") == []


def test_one_draw_settles_nothing() -> None:
    [one] = compare([row("scratch", 50, 0, 0.2), row("tuned", 50, 0, 0.1)], "scratch")
    assert one.verdict == "not known"
    assert math.isnan(one.draws_needed)
    assert wording.percent(one) == "-50.0%"


def test_more_comparisons_ask_for_more() -> None:
    few = compare(rows(gain=0.985), "scratch")
    many = compare(rows(gain=0.985, sizes=tuple(range(50, 90))), "scratch")
    assert all(one.p_holm >= one.p for one in [*few, *many])
    assert max(one.p_holm / one.p for one in many) == len(many)


def test_the_interval_over_test_rows_is_of_the_predictions(tmp_path: Path) -> None:
    header = "id,split,quantity,label,prediction,elements,unseen_elements\n"
    lines = {"scratch": "1.5", "tuned": "1.1"}
    found = []
    for mode, prediction in lines.items():
        folder = tmp_path / mode
        folder.mkdir()
        text = "".join(f"c{k},test,gap,1.0,{prediction},Na Cl,\n" for k in range(12))
        (folder / "predictions.csv").write_text(header + text)
        found += [row(mode, 50, draw, float(prediction) - 1, folder=folder) for draw in (0, 1)]
    [one] = compare(found, "scratch")
    assert one.over_rows == pytest.approx((-0.4, -0.4))


def test_the_rows_that_equal_and_the_slopes_are_said_in_words() -> None:
    found = summary(rows(gain=0.8))
    first, text = wording.heads(found)
    assert first.startswith("3 comparisons with scratch: 3 better, 0 worse, 0 not settled")
    assert text.startswith("gaps: tuned compared with scratch: better at 50, 100 and 200 rows; at 50 rows its error is")
    equal = found.laws[0].equal[0].rows
    assert equal == pytest.approx(50 * 0.8 ** (-1 / 0.4), rel=0.1)
    assert f"which scratch reaches with {equal:,.0f} [" in text
    assert list(wording.slopes(found)) == ["gaps: no slope can be told from that of scratch."]
    steep = [one._replace(error=one.error * (one.cell.kind.size or 1) ** -0.3) if one.cell.kind.mode == "tuned" else one
             for one in rows()]  # fmt: skip
    said = "gaps: that of tuned is steeper; no other slope can be told from that of scratch."
    assert list(wording.slopes(summary(steep))) == [said]


def test_the_rows_of_the_pretraining_have_a_slope_of_their_own() -> None:
    sources = {"pbe": {"settings": [], "sizes": [500, 2000, 8000]}}
    found = [row("scratch", n, d, n**-0.4, source="pbe-500") for n in (50, 100) for d in range(4)]
    found += [
        row("tuned", n, d, n**-0.4 * m**-0.1, source=f"pbe-{m}")
        for n in (50, 100)
        for d in range(4)
        for m in (500, 2000, 8000)
    ]
    made = summary(found, sources=sources)
    assert [(law.size, round(law.slope.exponent, 6)) for law in made.source_laws] == [(50, -0.1), (100, -0.1)]
    assert wording.two_slopes(made.source_laws[0]) == "differ"
    grid = slopes.blocks(made)[-1]
    assert isinstance(grid, Grid)
    assert [line[4:] for line in grid.rows] == [
        [n, "-0.10 [-0.10, -0.10]", "-0.40 [-0.40, -0.40]", "differ"] for n in ("50", "100")
    ]


def test_a_slope_of_one_size_is_a_dash() -> None:
    sources = {"pbe": {"settings": [], "sizes": [500, 2000]}}
    found = [row("scratch", 50, d, 1.0, source="pbe-500") for d in range(4)]
    found += [row("tuned", 50, d, m**-0.1, source=f"pbe-{m}") for d in range(4) for m in (500, 2000)]
    [law] = summary(found, sources=sources).source_laws
    assert [wording.exponent(law.slope)[:5], wording.exponent(law.of_target)] == ["-0.10", "-"]
    assert wording.two_slopes(law) == "not known"


def test_rows_beyond_those_of_the_baseline_are_said_with_their_bound() -> None:
    for gain, said, cell in [
        (0.3, "which scratch does not reach with 200 rows", "> 200"),
        (3.0, "more than that of scratch with 50 rows", "< 50"),
    ]:
        found = summary(rows(gain=gain))
        assert list(wording.heads(found))[1].endswith(f", {said}.")
        assert wording.rows_equal(found.laws[0].equal[0], [50, 100, 200]).startswith(cell)


def test_a_mode_that_takes_nothing_of_a_source_is_not_said_to_come_from_one() -> None:
    sources = {"pbe": {"source": "bundled"}, "other": {"source": "bundled/megnet"}}
    modes = {**MODES, "tuned": {"mode": "features", "once": True}}
    found = summary(rows(), sources=sources, modes=modes)
    assert found.named("tuned", "pbe") == "tuned"
    assert list(wording.heads(found))[1].startswith("gaps: tuned compared with scratch")
    assert summary(rows(), sources=sources).named("tuned", "pbe") == "tuned from pbe"
    blocks = page.compose(found, rows(), [], {}, [])
    [verdicts] = [block for block in blocks if isinstance(block, Grid) and "verdict" in block.header]
    assert {line[2] for line in verdicts.rows} == {"-"}


def test_the_page_says_what_every_name_stands_for() -> None:
    sources = {"pbe": {"settings": ["fit.epochs=3"], "sizes": [500, 2000], "about": "PBE gaps"}}
    modes = {"scratch": {"about": "fresh  weights"}, "tuned": {"mode": "finetune", "settings": ["fit.epochs=9"]}}
    found = summary([], sources=sources, modes=modes, splits={"random": [], "new": ["split=prototype"]})
    [grid] = list(names.blocks(found))
    assert isinstance(grid, Grid)
    assert grid.rows == [
        ["target", "gaps", "target=gaps"],
        ["mode", "scratch", "fresh weights"],
        ["mode", "tuned", "mode=finetune fit.epochs=9"],
        ["source", "pbe-500", "PBE gaps; 500 crystals"],
        ["source", "pbe-2000", "PBE gaps; 2,000 crystals"],
        ["split", "random", "a random one"],
        ["split", "new", "split=prototype"],
    ]


@pytest.mark.parametrize(
    ("gain", "lower", "verdict"),
    [(0.8, True, "reproduced"), (0.8, False, "not reproduced"), (1.0, True, "not at this size"),
     (1.25, False, "reproduced")],
)  # fmt: skip
def test_a_claim_is_judged_by_the_differences(gain: float, lower: bool, verdict: str) -> None:
    claims = [{"says": "It helps.", "mode": "tuned", "size": 100, "lower": lower}]
    [judged] = summary(rows(gain=gain), claims=claims).claims
    assert judged.verdict == verdict
    assert judged.claim == Claim("It helps.", "tuned", "", "", 100, lower)
    assert wording.claim(judged).startswith(f"It helps. {verdict.capitalize()}. (gaps, 100 rows, from pbe: ")


def test_the_page_has_the_figure_first_and_every_comparison() -> None:
    found = summary(rows())
    shown = list(figures.pictures(found))
    blocks = page.compose(found, rows(), [], {}, shown)
    assert [type(block) for block in blocks[:3]][0::2] == [Heading, Picture]
    [grid] = [block for block in blocks if isinstance(block, Grid) and "verdict" in block.header]
    assert [(line[0], line[3]) for line in grid.rows] == [("50", "better"), ("100", "better"), ("200", "better")]
    assert len(page.curves(found)) == 6
    assert len(page.differences(found)) == 3


def test_a_figure_suits_light_and_dark(tmp_path: Path) -> None:
    figures.write(list(figures.pictures(summary(rows()))), tmp_path / "figures")
    text = (tmp_path / "figures" / "gaps.svg").read_text()
    assert "prefers-color-scheme:dark" in text
    assert "var(--ink)" in text
    assert "#24292f" in text[: text.index("</style>")]
    assert "#24292f" not in text[text.index("</style>") :]


def test_harder_tests_give_a_factor_for_each_mode() -> None:
    hard = [
        one._replace(
            error=(1.5 if one.cell.kind.mode == "scratch" else 2.0) * one.error,
            cell=one.cell._replace(kind=one.cell.kind._replace(split="new_types")),
        )
        for one in rows(sizes=(100,))
    ]
    both = [*rows(sizes=(100,)), *hard]
    blocks = page.compose(summary(both, splits={"random": [], "new_types": ["split=prototype"]}), both, [], {}, [])
    at = next(k for k, block in enumerate(blocks) if isinstance(block, Heading) and block.text == "Harder tests")
    grid = blocks[at + 2]
    assert isinstance(grid, Grid)
    assert [(line[3], line[-1]) for line in grid.rows] == [("scratch", "1.50"), ("tuned", "2.00")]


def test_the_table_of_claims_has_a_row_for_each_comparison() -> None:
    said = [
        {"says": "It helps.", "mode": "tuned", "lower": True},
        {"says": "Now.", "mode": "tuned", "size": 7, "lower": True},
    ]
    table = page.claims(summary(rows(), claims=said))
    assert list(table["rows"].dropna()) == [50, 100, 200]
    assert set(table["verdict"][:3]) == {"reproduced"}
    assert (table["low"][:3] < table["difference"][:3]).all()
    assert list(table.iloc[3][["claim", "verdict"]]) == ["Now.", "not at this size"]
