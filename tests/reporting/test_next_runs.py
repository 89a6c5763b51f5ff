"""What to run next: as many pairs as settle the difference seen, by the user's own command with scratch beside it."""

import itertools
import math
import shlex

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from run_folders import make_run
from support import config

from tltool.reporting.finished_runs import collect, read
from tltool.reporting.next_runs import advice, cross_validation, pairs_needed, repeat
from tltool.reporting.statistics import summarise


def run_of(folder, command, **changes):
    return read(make_run(folder / "r", command=command, **changes), "r", "transfer")


# G*Power 3.1, paired t-test, two-sided, alpha 0.05, power 0.8: effect size dz -> pairs.
@pytest.mark.parametrize(("effect", "pairs"), [(1.0, 10), (0.8, 15), (0.5, 34), (0.2, 199), (3.0, 4)])
def test_pairs_needed_are_those_of_power_tables(effect, pairs):
    assert pairs_needed(effect * 7, 7) == pairs_needed(-effect, 1) == pairs


def test_pairs_needed_at_its_ends():
    assert pairs_needed(0.0, 1.0) == 10_000
    assert pairs_needed(1e-9, 1.0, most=50) == 50
    assert pairs_needed(1.0, 0.0) == 2


def test_so_many_pairs_find_the_difference_four_times_in_five():
    n = pairs_needed(0.5, 1.0)
    drawn = np.random.default_rng(0).normal(0.5, 1.0, size=(20_000, n))
    t = drawn.mean(1) / drawn.std(1, ddof=1) * math.sqrt(n)
    assert (np.abs(t) > 2.0345).mean() == pytest.approx(0.8, abs=0.02)  # t(0.975, 33)


def test_few_rows_need_draws_that_detect_the_observed_difference(tmp_path):
    # Differences of -20 with a standard deviation of 25 1/cm, as for phonons at 100 rows: 15 pairs at dz = 0.8.
    spread = 25 * np.array([-1.0, -0.5, 0, 0.5, 1.0]) / np.std([-1.0, -0.5, 0, 0.5, 1.0], ddof=1)
    for draw, extra in enumerate(spread):
        made = {"phonon_peak": {"unit": "1/cm", "test": {"MAE": 130.0}}}
        other = {"phonon_peak": {"unit": "1/cm", "test": {"MAE": 110.0 + extra}}}
        make_run(tmp_path / f"s{draw}", "scratch", 0, draw=draw, quantities=made)
        words = "tltool transfer -m mode=finetune split.train_size=100 split.draw=0,1,2,3,4"
        make_run(tmp_path / f"f{draw}", "finetune", 0, draw=draw, quantities=other, command=words)
    row = summarise(collect([tmp_path]).results)[1]
    assert row.paired.verdict == "neutral"
    found = advice(row, row.runs[-1])
    assert found.n == 15
    assert found.text == (
        "With 100 training crystals, about 15 draws are needed to detect a difference of 20.0 1/cm (the observed "
        "difference), if its standard deviation between draws is 25.0 1/cm."
    )
    assert found.command == (
        "tltool transfer -m split.train_size=100 source=runs/pretrain/model mode=scratch,finetune "
        "'split.draw=range(15)'"
    )  # fmt: skip


def test_more_than_fifty_draws_are_not_asked_for(tmp_path):
    for draw, mae in enumerate([0.19, 0.22, 0.18, 0.21, 0.201]):
        make_run(tmp_path / f"s{draw}", "scratch", 0, 0.2, draw=draw)
        make_run(tmp_path / f"f{draw}", "finetune", 0, mae, draw=draw)
    row = summarise(collect([tmp_path]).results)[1]
    found = advice(row, row.runs[-1])
    assert found.n == 50
    assert "more than 10,000 draws are needed to detect a difference of 0.000200" in found.text
    # 50 pairs at a power of 80 % find dz = 0.404.
    assert f"; 50 draws detect a difference of {0.404 * row.paired.sd:.5f} log10(GPa)." in found.text
    assert found.command == ""


def test_a_settled_difference_asks_for_nothing(tmp_path):
    for seed, mae in enumerate([0.10, 0.12, 0.11]):
        make_run(tmp_path / f"s{seed}", "scratch", seed, 0.2)
        make_run(tmp_path / f"f{seed}", "finetune", seed, mae)
    scratch, finetune = summarise(collect([tmp_path]).results)
    assert advice(finetune, finetune.runs[0]) is None
    assert advice(scratch, scratch.runs[0]) is None


def test_two_pairs_that_agree_by_chance_are_not_taken_for_certain(tmp_path):
    for draw, mae in enumerate([0.1990, 0.1995]):
        make_run(tmp_path / f"s{draw}", "scratch", 0, 0.2, draw=draw)
        make_run(tmp_path / f"f{draw}", "finetune", 0, mae, draw=draw)
    row = summarise(collect([tmp_path]).results)[1]
    assert row.paired.sd < 0.001
    assert "standard deviation between draws is 0.0300 log10(GPa)" in advice(row, row.runs[0]).text


COMMANDS = [
    ["target=bulk_modulus"],
    ["target=table", 'target.data.root="/data/my table\'s (2).csv"', "target.data.quantities=[gap,e_form]", "seed=3"],
    ["-m", "mode=finetune,freeze", "seed=0,1", "split.train_size=50,100", "hydra.sweep.dir=there"],
    ["mode=finetune", "mode.head=keep", "mode.lr_scale={encoder: 0.3}", "fit.epochs=7", "hydra.run.dir=there"],
    ["mode=features", "mode/regressor=svr", "mode.level=-1", "split.draw=4", "split.train_size=100"],
    ["--config-dir", "mine", "source=latest", "split=hash", "+optimiser.eps=1e-6"],
    ["source=my/model", "split.seed=1"],
]


@pytest.mark.parametrize(
    ("words", "varied"),
    # A split by a hash has no draws.
    [(w, v) for w in COMMANDS for v in ("seed", "split.draw") if v == "seed" or "split=hash" not in w],
)
def test_the_command_runs_the_same_study(tmp_path, words, varied):
    given = [word for word in words if "=" in word or word.startswith("~")]
    mode = next((word[5:].split(",")[0] for word in given if word.startswith("mode=")), "finetune")
    run = run_of(tmp_path, shlex.join(["tltool", "transfer", *words]), mode=mode, seed=3 if "seed=3" in words else 0)
    lines = [shlex.split(line) for line in repeat(run, varied, 2).splitlines()]
    assert all(line[:2] == ["tltool", "transfer"] and "-m" in line for line in lines)
    assert all(("--config-dir" in line) == ("--config-dir" in words) for line in lines)
    made = [
        config("transfer", *choice)
        for line in lines
        for choice in product([word for word in line[2:] if word not in ("-m", "--config-dir", "mine")])
    ]
    names = {node["mode"]["_target_"].rpartition(".")[2] for node in made}
    assert names == {"scratch", *next((w[5:].split(",") for w in words if w.startswith("mode=")), ["finetune"])}
    of = {"seed": lambda node: node["seed"], "split.draw": lambda node: node["split"]["draw"]}[varied]
    assert {of(node) for node in made} == {0, 1}
    # What the user asked for is all there, cell by cell, but for the mode, what makes the pairs, and folders.
    plain = [word for word in given if not word.startswith(("hydra.", "source=latest"))]
    asked = [config("transfer", *choice) for choice in product(plain)]
    fixed = any(word.startswith("split.seed=") for word in words)
    own = [node for node in made if "scratch" not in node["mode"]["_target_"]]
    assert {digest(node, varied, fixed) for node in own} == {digest(node, varied, fixed) for node in asked}
    alone = [node for node in made if "scratch" in node["mode"]["_target_"]]
    assert {digest(node, varied, fixed, "mode") for node in alone} == {
        digest(node, varied, fixed, "mode") for node in asked
    }


def product(words):
    """Return every combination of a sweep's choices."""
    parsed = OverridesParser.create().parse_overrides(words)
    choices = [
        [f"{o.get_key_element()}={of}" for of in o.sweep_string_iterator()] if o.is_sweep_override() else [word]
        for o, word in zip(parsed, words, strict=True)
    ]
    return [list(cell) for cell in itertools.product(*choices)]


def digest(node, varied, fixed, *without):
    """Return a config as text, without what makes pairs and what the command names for the user."""
    split = {key: value for key, value in node["split"].items() if key != "draw" or varied == "seed"}
    split["seed"] = "that of the run" if split.get("seed") == node["seed"] and not fixed else split.get("seed")
    kept = {k: v for k, v in node.items() if k not in ("seed", "source", *without)} | {"split": split}
    return str(sorted(kept.items(), key=str))


def test_scratch_gets_no_override_of_another_mode(tmp_path):
    run = run_of(tmp_path, "tltool transfer mode=finetune 'mode.lr_scale={encoder: 0.3}' target=table")
    start = "tltool transfer -m target=table source=runs/pretrain/model"
    assert repeat(run, "seed", 2).splitlines() == [
        f"{start} mode=scratch seed=0,1",
        f"{start} mode=finetune 'mode.lr_scale={{encoder: 0.3}}' seed=0,1",
    ]


def test_a_folder_that_does_not_say_how_it_was_started_gets_no_command(tmp_path):
    assert repeat(run_of(tmp_path, ""), "seed", 5) == ""
    assert repeat(run_of(tmp_path / "b", "python train.py"), "seed", 5) == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "tltool transfer target=folder target.data.root=D mode=features seed=3 split.test=0.2 hydra.run.dir=x",
            "tltool transfer target=folder target.data.root=D mode=features seed=3 source=runs/pretrain/model split=cv",
        ),
        ("tltool transfer source=S split=composition", "tltool transfer source=S split=cv"),
        ("tltool transfer -m mode=scratch,finetune seed=0,1", None),
        ("tltool transfer split.train_size=100", None),
        ("", None),
    ],
)
def test_few_rows_propose_cross_validation(tmp_path, words, expected):
    changes = {} if "train_size" in words else {"identity": {"split": "ids", "file": "f.csv"}}
    run = run_of(tmp_path, words, size=64, **changes)
    found = cross_validation(run)
    assert [one.command for one in found] == ([expected] if expected else [])
    large = run_of(tmp_path / "large", words, size=200, **changes)
    assert cross_validation(large) == []
