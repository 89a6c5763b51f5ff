"""What may be compared: pairs rest on the same rows, labels, data, base and shape; the rest is told with a reason."""

import pytest
from run_folders import SPLITS, make_run

from tltool.reporting.comparable import place
from tltool.reporting.finished_runs import collect
from tltool.reporting.statistics import summarise
from tltool.reporting.unpaired import unpaired

FIT = {"epochs": 100, "loss": "huber"}
ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.004}
SETTINGS = {"mode": {"_target_": "tltool.transfer.x"}, "fit": FIT, "optimiser": ADAMW}
TABLE = {"target": "table", "data": "table"}


def of(folder, mode):
    return [row for row in summarise(collect([folder]).results) if row.mode == mode]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identity": {"data": "content of b", "file": "b.csv"}}, "The data differ (b.csv and a.csv)."),
        ({"identity": {"data": "new content", "file": "a.csv"}}, "The data differ."),
        ({"identity": {"base": "low", "base_name": "PBE"}}, "One learns the difference to PBE, the other values."),
        (
            {"identity": {"split": "prototype"}},
            "split._target_ is by_hash and random; split.group is prototype and not set.",
        ),
        ({"identity": {"left_out": 3}}, "overlap=drop_test removed 3 and 0 test crystals."),
        (
            {"identity": {"shape": "wider"}},
            "The models differ in shape, because their sources have different settings.",
        ),
        ({"settings": SETTINGS | {"fit": FIT | {"epochs": 1}}}, "fit.epochs is 1 and 100."),
        ({"settings": SETTINGS | {"fit": FIT | {"loss": "l1"}}}, "fit.loss is l1 and huber."),
        ({"settings": SETTINGS | {"optimiser": ADAMW | {"lr": 0.001}}}, "optimiser.lr is 0.001 and 0.004."),
        (
            {"settings": SETTINGS | {"optimiser": {"_target_": "torch.optim.SGD", "lr": 0.004}}},
            "optimiser._target_ is SGD and AdamW.",
        ),
        (
            {"identity": {"test": {"log10_K_VRH": "other labels"}}},
            "The test crystals or their labels differ.",
        ),
        ({"identity": {"train": "other"}}, "The training or validation crystals or their labels differ."),
        ({"train_size": 50}, "They have 50 and 100 training crystals."),
        ({"seed": 7}, "Seed is 7 and 0."),
        ({"split_seed": 3}, "split.seed is 3 and 0."),
    ],
)
def test_a_run_on_something_else_is_no_baseline_and_the_reason_is_told(tmp_path, changes, reason):
    own = {"file": "a.csv"} | changes.get("identity", {})
    make_run(tmp_path / "s", "scratch", 0, 0.2, **TABLE, settings=SETTINGS, identity={"file": "a.csv"})
    make_run(tmp_path / "f", "finetune", mae=0.1, **TABLE | {"settings": SETTINGS} | changes | {"identity": own})
    (row,) = of(tmp_path, "finetune")
    assert row.paired.n == 0
    (told,) = unpaired(collect([tmp_path]).results)
    assert (told.runs, told.other) == (("f",), "s")
    assert told.reason == reason


def test_the_same_of_another_name_is_a_pair(tmp_path):
    same = {"data": "one content"}
    make_run(tmp_path / "s", "scratch", 0, 0.2, data="table", identity=same | {"file": "a.csv"})
    make_run(tmp_path / "f", "finetune", 0, 0.1, data="moved", identity=same | {"file": "renamed.csv"})
    scratch, finetune = summarise(collect([tmp_path]).results)
    assert finetune.paired.n == 1
    assert scratch.place == finetune.place
    assert unpaired(collect([tmp_path]).results) == []


def test_two_tables_are_two_studies_told_apart_by_name(tmp_path):
    for seed in range(3):
        for file, scratch in (("a.csv", 0.2), ("b.csv", 0.9)):
            identity = {"data": f"content of {file}", "file": file}
            make_run(tmp_path / f"s{file}{seed}", "scratch", seed, scratch, **TABLE, identity=identity)
        make_run(
            tmp_path / f"f{seed}",
            "finetune",
            seed,
            0.2,
            **TABLE,
            identity={"data": "content of a.csv", "file": "a.csv"},
        )
    rows = summarise(collect([tmp_path]).results)
    assert [(row.place.note, row.mode, len(row.runs), row.error.mean) for row in rows] == [
        ("a.csv", "scratch", 3, pytest.approx(0.2)),
        ("a.csv", "finetune", 3, pytest.approx(0.2)),
        ("b.csv", "scratch", 3, pytest.approx(0.9)),
    ]
    assert rows[1].paired.mean == pytest.approx(0.0)
    assert rows[1].paired.verdict == "neutral"


def test_differences_and_values_are_two_studies(tmp_path):
    low = {"base": "low", "base_name": "PBE"}
    make_run(tmp_path / "a", "scratch", 0, 0.5, **TABLE)
    make_run(tmp_path / "b", "scratch", 0, 0.1, **TABLE, identity=low)
    make_run(tmp_path / "c", "finetune", 0, 0.2, **TABLE, identity=low)
    (row,) = of(tmp_path, "finetune")
    assert row.place.note == "difference to PBE"
    assert row.paired.mean == pytest.approx(0.1)


def test_five_published_splits_are_five_pairs(tmp_path):
    for n in range(5):
        identity = {"split": "ids", "file": f"splits/{n}.csv"}
        for mode, mae in (("scratch", 0.2), ("finetune", 0.1)):
            changes = {"split_seed": None, "train_size": 72 + n % 2, "identity": identity}
            make_run(tmp_path / f"{mode}{n}", mode, 0, mae + n / 100, **changes)
    scratch, finetune = summarise(collect([tmp_path]).results)
    assert len(scratch.of_cells) == len(scratch.runs) == 5
    assert scratch.place.train_size == 72
    assert finetune.paired[:2] == pytest.approx((5, -0.1))
    assert {cell.file for cell in finetune.of_cells} == {f"{n}.csv" for n in range(5)}


def test_a_written_split_is_that_of_the_run_with_the_same_rows(tmp_path):
    rows = {"train": "a", "val": "b", "test": {"log10_K_VRH": "c"}}
    make_run(tmp_path / "s", "scratch", 0, 0.2, identity=rows)
    make_run(
        tmp_path / "f", "finetune", 0, 0.1, split_seed=None, identity=rows | {"split": "ids", "file": "s/split.csv"}
    )
    assert of(tmp_path, "finetune")[0].paired.n == 1


def test_dropped_test_crystals_are_averaged_apart_and_pair_where_they_are_none(tmp_path):
    for seed in range(3):
        make_run(tmp_path / f"s{seed}", "scratch", seed, 0.2)
        make_run(tmp_path / f"f{seed}", "finetune", seed, 0.1)
    drop = {"overlap": {"rule": "drop_test", "left_out": 0}}
    make_run(tmp_path / "d0", "finetune", 0, 0.15, identity=drop)
    assert [len(row.runs) for row in of(tmp_path, "finetune")] == [4]  # nothing was left out: the same test
    make_run(tmp_path / "d1", "finetune", 1, 0.5, identity={"left_out": 2})
    rows = of(tmp_path, "finetune")
    assert [(row.place.overlap, len(row.runs), row.paired.n) for row in rows] == [("", 3, 3), ("drop_test", 2, 1)]
    (told,) = unpaired(collect([tmp_path]).results)
    assert told.reason == "overlap=drop_test removed 2 and 0 test crystals."


def test_variants_of_a_mode_are_not_averaged(tmp_path):
    def with_head(word):
        return SETTINGS | {"mode": {"_target_": "tltool.transfer.finetune", "head": word}}

    make_run(tmp_path / "s", "scratch", 0, 0.2, settings=SETTINGS)
    make_run(tmp_path / "a", "finetune", 0, 0.1, settings=with_head("new"))
    make_run(tmp_path / "b", "finetune", 0, 0.3, settings=with_head("keep"))
    make_run(tmp_path / "c", "finetune", 0, 0.4, settings=with_head("keep"), source="runs/pretrain/two/model")
    rows = summarise(collect([tmp_path]).results)
    names = {row.mode: row.error.mean for row in rows}
    assert names == {
        "scratch": 0.2,
        'finetune (head="new", source pretrain)': 0.1,
        'finetune (head="keep", source pretrain)': 0.3,
        'finetune (head="keep", source two)': 0.4,
    }
    assert [row.paired.n for row in rows[1:]] == [1, 1, 1]  # scratch takes nothing of a source but its shape


def test_seeds_of_an_estimator_make_no_variant(tmp_path):
    for seed in range(2):
        node = {"mode": {"regressor": {"random_state": seed}}}
        make_run(tmp_path / f"{seed}", "features", seed, 0.1, settings=SETTINGS | node)
    assert [len(row.runs) for row in of(tmp_path, "features")] == [2]


@pytest.mark.parametrize(
    "identity", [None, {"schema": 99}, {"test": {}}, {"test": 3}, {"data": None}, {"split": "words"}]
)
def test_a_run_without_a_readable_record_is_compared_with_nothing(tmp_path, identity):
    if identity and identity.get("split") == "words":
        identity = {"overlap": []}
    make_run(tmp_path / "s", "scratch", 0, 0.2)
    make_run(tmp_path / "old", "finetune", 0, 0.1, identity=identity)
    results = collect([tmp_path]).results
    assert [p.run.name for p in place(results)] == ["s"]
    (told,) = unpaired(results)
    assert (told.runs, told.other) == (("old",), "")
    assert "An older version of tltool made this run" in told.reason


def test_runs_of_one_reason_are_one_line(tmp_path):
    for seed in range(3):
        make_run(tmp_path / f"s{seed}", "scratch", seed, 0.2)
        make_run(tmp_path / f"f{seed}", "finetune", seed, 0.1, identity={"shape": "wider"})
    (told,) = unpaired(collect([tmp_path]).results)
    assert told.runs == ("f0", "f1", "f2")


def test_the_random_split_of_the_helper_is_the_shipped_one():
    from support import config

    for name in ("random", "prototype", "ids"):
        shipped = config("transfer", f"split={name}", *(["split.file=x"] if name == "ids" else []))["split"]
        assert SPLITS[name].items() <= shipped.items()
