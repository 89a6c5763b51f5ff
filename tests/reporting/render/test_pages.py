import json
import math
import re
from html.parser import HTMLParser

import pytest
from run_folders import make_run, make_three_seeds

from tltool.reporting.content import compose
from tltool.reporting.finished_runs import collect
from tltool.reporting.render import html, markdown
from tltool.reporting.render.terminal import tables as terminal_tables

VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would see: the words, the tables, the addresses; tags must nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.words, self.rows, self.ids, self.images = [], [], "", [], [], 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[name] for name in ("src", "href", "srcset", "data", "xlink:href") if found.get(name)]
        self.ids += [found["id"]] if "id" in found else []
        self.images += tag == "svg"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def row(self, first):
        return next(row for row in self.rows if row[0] == first)


def pages_of(folder, out):
    """Write both pages on the runs in ``folder`` into ``out``; return the Markdown and what a browser would see."""
    out.mkdir()
    report = compose(collect([folder]))
    markdown.write(report, out / "report.md")
    html.write(report, out / "report.html")
    return (out / "report.md").read_text(), Page((out / "report.html").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A report with all its sections: the folders of its runs and of its pages, the Markdown, what a browser sees."""
    runs = make_three_seeds(tmp_path_factory.mktemp("whole") / "runs")
    make_run(runs / "pre", stage="pretrain", mae=0.033, target="formation_energy", data="mp")
    make_run(runs / "eval", stage="eval", mae=0.044, target="elastic", source=None)
    make_run(runs / "small" / "s", "scratch", 0, 0.3, size=20, citations=["Doe, 2020"])
    make_run(runs / "stopped", state="interrupted")
    return runs, runs.parent / "out", *pages_of(runs, runs.parent / "out")


def test_report_has_its_sections_numbers_and_pictures(whole):
    _, out, text, page = whole
    sections = re.findall(r"^## (.*)$", text, re.M)
    assert sections == [
        "Pretraining runs", "Transfer", "Parity", "Error by element", "Learning curves", "Training size",
        "Transfer runs", "Evaluations", "Citations", "How the tables are made", "Runs left out",
    ]  # fmt: skip
    assert all(section in page.words for section in sections)
    row = next(row for row in page.rows if row[0] == "finetune (best)")
    assert row[1:6] == ["3", "0.120 ± 0.020", "12.0 ± 2.0", "0.180 ± 0.030", "0.900 ± 0.000"]
    assert row[6:] == ["0.480 ± 0.080", "12,345", "4.20 ± 0.00"]
    assert any(row[-3:-1] == ["MAE (log10(GPa)), seed\u00a00", "MAE (log10(GPa)), seed\u00a01"] for row in page.rows)
    assert ["scratch", "baseline", "-", "-", "-", "-", "-", "0.200", "0.240", "0.220"] in page.rows
    paired = ["-0.100", "[-0.150, -0.050]", "3", "0.013", "0.25", "positive transfer"]
    assert ["finetune (best)", *paired, "0.100", "0.120", "0.140"] in page.rows
    assert page.row("pre")[9] == "0.0330"
    assert page.row("stopped")[1] == "interrupted"
    assert "Doe, 2020" in page.words
    assert "finetune is best, test MAE 0.120 ± 0.020 log10(GPa) (12.0 ± 2.0 GPa); positive transfer" in page.words
    assert "9 finished runs (1 eval, 1 pretrain, 7 transfer); 1 unfinished or damaged runs are left out" in page.words
    # Na was not seen in training: errors 0.10, 0.12, 0.14 of crystal b.
    assert (
        "MAE of the crystals with an element that is not in the training crystals: 0.120 log10(GPa) (3 predictions)"
        in page.words
    )
    # One summary, two parity plots, one periodic table, curves of transfer and pretraining, one plot over sizes.
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(pictures) == page.images == 7
    for name in pictures:
        assert (out / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("bare")
def test_runs_that_are_not_compared_are_listed_and_what_is_not_settled_has_its_command(three_seeds, tmp_path):
    make_run(three_seeds / "other", "freeze", 0, 0.1, identity={"data": "other", "file": "b.csv"})
    make_run(three_seeds / "old", "finetune", 5, 0.1, identity=None)
    command = "tltool transfer mode=lora 'target.data.root=my <table>.csv'"
    make_run(three_seeds / "one", "lora", 0, 0.19, command=command)
    text, page = pages_of(three_seeds, tmp_path / "out")
    assert "## Runs that are not compared" in text
    assert page.row("other")[1:] == ["freeze", "bulk_modulus", "log10_K_VRH", "s0", "The data differ."]
    assert page.row("old")[4:] == ["-", next(row[-1] for row in page.rows if row[0] == "old")]
    assert "An older version of tltool made this run" in page.row("old")[5]
    wanted = "tltool transfer -m 'target.data.root=my <table>.csv' source=runs/pretrain/model mode=scratch,lora "
    assert wanted in page.words
    assert f"~~~\n{wanted}" in text
    assert "lora: With 100 training crystals, about " in text
    # An old run is in no average.
    assert page.row("finetune (best)")[1] == "3"


@pytest.mark.usefixtures("bare")
def test_columns_say_what_tells_cells_apart(tmp_path):
    for name, identity in (("a", {}), ("b", {"train": "again"})):
        make_run(tmp_path / "runs" / name, "scratch", 0, identity=identity)
    for n in range(2):
        written = {"split": "ids", "file": f"x/{n}.csv"}
        make_run(tmp_path / "runs" / f"{n}", "scratch", 0, split_seed=None, identity=written)
    _, page = pages_of(tmp_path / "runs", tmp_path / "out")
    heads = [cell for row in page.rows for cell in row if cell.startswith("MAE (log10(GPa)), seed")]
    assert sum(", rows " in head for head in heads) == 2
    assert [head.rpartition(", ")[2] for head in heads if "file" in head] == ["file 0.csv", "file 1.csv"]


@pytest.mark.usefixtures("bare")
def test_what_is_left_of_a_source_that_was_replayed_is_in_the_report(tmp_path):
    errors = {"unit": "eV/atom", "before": {"val": 0.5, "test": 0.0456}, "after": {"val": 0.5, "test": 0.0789}}
    unmeasured = {"unit": "eV", "before": {}, "after": {}}
    replay = {"weight": 0.5, "quantities": {"e_form": errors, "gap": unmeasured}}
    make_run(tmp_path / "runs" / "with", replay=replay)
    make_run(tmp_path / "runs" / "without")
    blocks = compose(collect([tmp_path / "runs"]))
    at = next(k for k, block in enumerate(blocks) if getattr(block, "text", "") == "Errors of the source with replay")
    assert blocks[at + 1].rows == [["with", "finetune", "bulk_modulus", "e_form", "eV/atom", "0.5", "0.0456", "0.0789"]]


def test_page_needs_nothing_from_outside(whole):
    _, out, _, page = whole
    assert page.addresses
    targets = {address[1:] for address in page.addresses if address.startswith("#")}
    assert targets <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    text = (out / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']?https?://|url\((?!#)|@import", text)
    assert '<meta name="color-scheme" content="light dark">' in text


@pytest.mark.usefixtures("quick")
def test_names_cannot_break_the_page(tmp_path):
    evil = '<script>alert("x")</script> & |a*b`c[d](e) @style@'
    place = tmp_path / "a <b> & 'c' | d"
    make_run(
        place / "one", evil, 0, 0.1, target=evil, data=evil, source=evil, citations=[evil, f"{evil} https://x.org"]
    )
    make_run(place / "two", "scratch", 0, 0.2, target=evil, data=evil)
    quantity = {evil: {"unit": evil, "test": {"MAE": 1.0}}}
    make_run(place / "three", "scratch", 1, 0.2, quantities=quantity)
    (make_run(place / "<i>four") / "status.json").write_text(
        json.dumps({"stage": "eval", "state": evil, "message": evil})
    )
    text, page = pages_of(tmp_path, tmp_path / "out")
    assert "<script" not in (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in text
    assert evil in page.words
    assert any(evil in row for row in page.rows)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    heads = [i for i, line in enumerate(tables) if set(line) <= set("|-: ")]
    for head in heads:
        assert widths[head] == widths[head - 1] == widths[min(head + 1, len(widths) - 1)]
    terminal_tables(collect([tmp_path]).results)


def test_a_pretraining_alone_makes_a_report(tmp_path):
    make_run(tmp_path / "pre", stage="pretrain", mae=0.03)
    text, page = pages_of(tmp_path, tmp_path / "out")
    assert "## Pretraining runs" in text
    assert "## Transfer" not in text
    assert page.row("pre")


@pytest.mark.parametrize("content", [None, "", "id,split\n1,test\n", 'id,split\n"torn', b"\xff\xff"])
def test_missing_or_damaged_side_files_do_not_stop_the_report(tmp_path, content):
    folder = make_run(tmp_path / "a", "scratch")
    for name in ("predictions.csv", "log.jsonl"):
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    text, page = pages_of(tmp_path, tmp_path / "out")
    assert "no run has a predictions.csv that can be read" in text
    assert page.images == 0


@pytest.mark.usefixtures("bare")
def test_curves_fall_back_to_the_loss(tmp_path):
    folder = make_run(tmp_path / "a", "scratch", 0)
    lines = [{"event": "epoch", "epoch": n, "train_loss": 1 / n} for n in (1, 2, 2)]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    text, _ = pages_of(tmp_path, tmp_path / "out")
    assert "training loss (scaled labels)" in text


def test_a_report_is_the_same_twice(whole, tmp_path):
    runs, out, text, _ = whole
    assert pages_of(runs, tmp_path / "again")[0] == text
    assert (tmp_path / "again" / "report.html").read_bytes() == (out / "report.html").read_bytes()


@pytest.mark.usefixtures("quick")
def test_what_may_mislead_is_said(tmp_path):
    for name in "ab":
        make_run(tmp_path / "runs" / name, "finetune", 0)
    for i, test in enumerate([{"MAE": math.nan}, {"MAE": None, "n": 0}, {}, None, {"MAE": 0.3}]):
        make_run(tmp_path / "runs" / str(i), "scratch", i, quantities={"gap": {"unit": "eV", "test": test}})
    text, page = pages_of(tmp_path / "runs", tmp_path / "out")
    assert "two runs have the same seed and split" in text
    assert "4 of 5 runs have no finite test MAE" in text
    assert not re.search(r"\bnan\b", page.words.lower())
