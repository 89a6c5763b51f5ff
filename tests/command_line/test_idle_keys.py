"""Every key of a config is read by the run, or is known not to be; an override of one that is not is refused.

Stages run here on a config that notes which of its keys are read. What they leave unread has to be what
``idle_keys`` says, and nothing else.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, batches_of, config

from tltool import instantiate
from tltool.command_line.idle_keys import ANYWHERE, idle_keys, why
from tltool.config_tree import data_nodes, leaves, nodes
from tltool.data import own_labels
from tltool.data.dataset import KEYS, Dataset
from tltool.data.record import Floats
from tltool.data.store import Store
from tltool.errors import ConfigError
from tltool.evaluation import results
from tltool.model.property_model import PropertyModel
from tltool.reporting import verdict
from tltool.run_folder.run import Run
from tltool.stages import evaluate, predict, prepare, pretrain, report, transfer
from tltool.training import setup
from tltool.training.backend import CPU
from tltool.training.fit import Fit, Settings
from tltool.training.fit import predict as predict_rows
from tltool.training.saved_state import changes

STAGES: dict[str, Callable[..., None]] = {
    "prepare": prepare.run,
    "pretrain": pretrain.run,
    "transfer": transfer.run,
    "eval": evaluate.run,
    "predict": predict.run,
    "report": report.run,
}
SMALL = ["fit.epochs=1", "fit.batch_size=8", "split.test=0.2", "split.val=0.2"]
ADAPTER = ["adapter.structure_column=[lattice,species,frac]", "adapter.labels=[e_form]", "adapter.columns=[e_form]"]


class Watched(dict[str, Any]):
    """A mapping that notes in ``reads`` the dotted names of the values that are taken from it."""

    def __init__(self, tree: dict[str, Any], place: str, reads: set[str]) -> None:
        super().__init__(
            {
                key: Watched(value, f"{place}.{key}".lstrip("."), reads) if isinstance(value, dict) and value else value
                for key, value in tree.items()
            }
        )
        self.place, self.reads = place, reads

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if not isinstance(value, Watched):
            self.reads.add(f"{self.place}.{key}".lstrip("."))
        return value

    def __iter__(self) -> Iterator[str]:  # so that dict(...) and ** take values through __getitem__
        return super().__iter__()

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 - a dict's own get notes nothing

    def items(self) -> Any:
        return [(key, self[key]) for key in self]

    def values(self) -> Any:
        return [self[key] for key in self]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, demo: Store) -> Path:
    """A folder with a table of forty crystals."""
    folder = tmp_path_factory.mktemp("home")
    with (folder / "table.jsonl").open("w") as file:
        for row in range(40):
            crystal = demo.crystal(row)
            words = {"lattice": crystal.lattice.tolist(), "species": [int(z) for z in crystal.numbers]}
            words |= {"id": demo.ids[row], "frac": crystal.frac.tolist(), "e_form": float(demo.label("e_form")[row])}
            file.write(json.dumps(words) + "\n")
    lines = ["NaCl", "1.0", "0.0 2.8 2.8", "2.8 0.0 2.8", "2.8 2.8 0.0", "Na Cl", "1 1", "Direct", "0 0 0", ".5 .5 .5"]
    (folder / "NaCl.vasp").write_text("\n".join(lines) + "\n")
    return folder


def table(home: Path, place: str, group: str = "") -> list[str]:
    """Return the words that put that table at ``place`` of the config, by a choice of ``group``."""
    choice = [f"{group}=table"] if group else []
    return [*choice, f"{place}.root={home}/table.jsonl", *(f"{place}.{word}" for word in ADAPTER)]


def composed(stage: str, *words: str) -> dict[str, Any]:
    """Return the config of ``stage`` as the stage receives it."""
    return own_labels.settled(config(stage, *words), {}, lambda text: None)


def read_by(
    stage: str, home: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], set[str]]:
    """Run ``stage`` with ``words``; return its config and the keys that it read."""
    made = composed(stage, f"cache={home}/cache", f"runs={home}/runs", "device=cpu", *words)
    reads: set[str] = set()
    fitted = setup.fit

    def fit(*given: Any) -> Any:
        found = fitted(*given)
        reads.difference_update({key for key in reads if key.startswith("fit.")})

        def noted(self: Settings, name: str) -> Any:
            if name in made["fit"]:
                reads.add(f"fit.{name}")
            return object.__getattribute__(self, name)

        monkeypatch.setattr(Settings, "__getattribute__", noted)
        return found

    with monkeypatch.context() as patch:
        monkeypatch = patch
        # What writes the whole config down reads all of it.
        patch.setattr(Run, "write_json", lambda *given: None)
        patch.setattr(changes, "fixed", lambda config: {})
        patch.setattr(results, "keep", lambda *given: None)
        patch.setattr(verdict, "so_far", lambda *given: [])
        patch.setattr(setup, "fit", fit)
        folder = home / "runs" / stage / f"law-{len(list(home.glob('runs/*/*')))}"
        run = Run(folder, stage)
        STAGES[stage](Watched(made, "", reads), run, CPU)
        run.close("finished", 0, "")
    if "optimiser._target_" not in reads:
        reads.discard("optimiser.lr")  # handed on, and used by an optimiser alone
    return made, reads


def settled(stage: str, made: dict[str, Any], reads: set[str]) -> None:
    """Hold what was read to what is idle: one or the other, for every key."""
    idle = idle_keys(stage, made)
    own = ["graph", *(place for place, _ in nodes(made) if place not in ("fit", "optimiser"))]
    for key in leaves(made):
        if key in ("stage", "logger") or key in ANYWHERE or key.endswith("_target_"):
            continue
        inside = any(key.startswith(f"{place}.") for place in own)
        if why(key, idle) is None:
            assert key in reads, f"{stage} does not read {key}; say so in idle_keys"
        elif not inside:  # of a function's own keys all are handed to it
            assert key not in reads, f"{stage} reads {key}, which is called idle"


@pytest.fixture(scope="module")
def pretrained(home: Path) -> Path:
    """A model of the table."""
    made = composed("pretrain", f"cache={home}/cache", f"runs={home}/runs", *table(home, "data", "data"), *SMALL)
    folder = home / "runs" / "pretrain" / "source"
    run = Run(folder, "pretrain")
    pretrain.run(made, run, CPU)
    run.close("finished", 0, "")
    (folder / "config.yaml").write_text(json.dumps(made))
    return folder


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["split=hash", "fit.schedule=constant", "optimiser=sgd"],
        ["fit.epochs=0"],
        ["fit.select=last", "fit.loss_balance=uncertainty", "fit.clip=null", "fit.ema=0"],
        ["overlap=drop_source"],
        ["overlap=drop_source", "target@overlap.target=table", "overlap.rows=held_out", "fit.batch_size=4"],
        ["graph.max_neighbours=null", "graph.cutoff=3.0"],
    ],
    ids=" ".join,
)
def test_pretrain(home: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ids = home / "ids.txt"
    ids.write_text(json.loads((home / "table.jsonl").read_text().splitlines()[0])["id"])
    if "target@overlap.target=table" in words:
        words = [*words, *table(home, "overlap.target.data")]
    elif "overlap=drop_source" in words:
        words = [*words, f"overlap.ids={ids}"]
    settled("pretrain", *read_by("pretrain", home, [*table(home, "data", "data"), *SMALL, *words], monkeypatch))


@pytest.mark.parametrize(
    "words",
    [
        ["mode=finetune"],
        ["mode=finetune", "fit.epochs=0"],
        ["mode=freeze", "fit.schedule=cosine"],
        ["mode=lora"],
        ["mode=freeze", "mode.replay=0.5"],
        ["mode=scratch"],
        ["mode=features"],
        ["mode=features", "mode.regressor=null"],
        ["mode=features", "mode/regressor=atom_set", "mode.level=[1]"],
        ["mode=features", "+data@target.base=table"],
        ["mode=auto", "~mode.candidates.descriptors", "~mode.candidates.kernel_ridge", "~mode.candidates.finetune"],
    ],
    ids=" ".join,
)
def test_transfer(home: Path, pretrained: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    base = table(home, "target.base") if "+data@target.base=table" in words else []
    every = [*table(home, "target.data", "target"), f"source={pretrained}", *SMALL, *words, *base]
    settled("transfer", *read_by("transfer", home, every, monkeypatch))


def test_the_other_stages(home: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage, words in (
        ("prepare", table(home, "data", "data")),
        ("eval", [f"model={pretrained}"]),
        ("eval", [f"model={pretrained}", *table(home, "data", "data")]),
        ("predict", [f"model={pretrained}", f"input={home}/NaCl.vasp"]),
        ("report", [f"inputs=[{pretrained.parents[1]}]"]),
    ):
        settled(stage, *read_by(stage, home, words, monkeypatch))


def test_eval_refuses_a_base_that_the_model_does_not_add_to(home: Path, pretrained: Path) -> None:
    words = [
        f"model={pretrained}",
        f"cache={home}/cache",
        *table(home, "data", "data"),
        *table(home, "base", "data@base"),
    ]
    run = Run(home / "runs" / "eval" / "base", "eval")
    with pytest.raises(ConfigError, match=r"values, not differences to a base; leave data@base= out\.$"):
        evaluate.run(composed("eval", *words), run, CPU)
    run.close("failed", 2, "")


RIDGE, SET_MODEL = ["mode=features"], ["mode=features", "mode/regressor=atom_set", "mode.level=[1]", "fit.epochs=1"]


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (RIDGE, ["fit.epochs=3", "fit.batch_size=7", "fit.loss=mse", "fit.ema=0.5", "optimiser.lr=0.5"]),
        ([*RIDGE, "mode.level=trunk"], ["mode.statistics=[std]"]),
        ([*RIDGE, "mode.level=[0]", "mode.extra_features=[elements,geometry]"], ["mode.refit_statistics=true"]),
        (SET_MODEL, ["mode.statistics=[std]", "mode.regressor.steps=5", "mode.regressor.query=3"]),
        (["mode=finetune", "fit.epochs=0"], ["mode.l2_sp=0.1", "mode.probe_first=true", "mode.layer_decay=0.5",
                                             "mode.replay=1", "fit.batch_size=7", "optimiser.lr=0.5"]),
        (["mode=lora", "fit.epochs=0"], ["mode.rank=2", "mode.alpha=1", "mode.maps=[trunk]", "mode.replay=1"]),
        (["mode=freeze", "fit.epochs=0"], ["mode.replay=1"]),
        (["mode=scratch", "fit.epochs=1", "fit.schedule=constant"], ["fit.warmup=0.9"]),
        (["mode=scratch", "fit.epochs=1", "target.quantities=[e_form]"], ["fit.weights={e_form: 3}"]),
    ],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_a_key_called_idle_changes_nothing(
    source: PropertyModel, part: Dataset, words: list[str], changed: list[str]
) -> None:
    def predicted(*more: str) -> Floats:
        made = composed("transfer", *words, *more)
        settings = instantiate.call(made["fit"])
        fit = Fit(
            settings, lambda groups: instantiate.call(made["optimiser"], groups), made["optimiser"]["lr"], 0, print
        )
        return predict_rows(instantiate.call(made["mode"], source, data, fit), data, "test")

    data = batches_of(part)
    plain = predicted()
    for word in changed:
        assert why(word.partition("=")[0], idle_keys("transfer", config("transfer", *words, word))) is not None
        np.testing.assert_array_equal(predicted(word), plain, err_msg=word)


def choices() -> list[tuple[str, str]]:
    """Return every stage with every choice of each of its groups."""
    found = [(stage, "input=x" if stage == "predict" else "seed=0") for stage in STAGES]
    groups = {
        "prepare": ("graph",),  # its descriptions of data are those of pretrain
        "pretrain": ("data", "encoder", "graph", "readout", "split", "fit", "optimiser", "overlap", "logger"),
        "transfer": ("target", "mode", "split", "optimiser", "overlap", "logger"),
    }
    for stage, names in groups.items():
        for name in names:
            found += [(stage, f"{name}={file.stem}") for file in sorted((ROOT / "configs" / name).glob("*.yaml"))]
    return found


# What the runs above read of a config outside of functions and of descriptions of data sets.
STRUCTURE = {
    "prepare": {"dry_run"},
    "pretrain": {
        "quantities", "state", "functionals", "keep_every", "resume", "resume_allow", "overlap.action", "overlap.ids",
    },
    "transfer": {"source", "target.name", "target.quantities", "overlap.action", "coverage"},
    "eval": {"model", "functional", "overlap.action", "coverage"},
    "predict": {"model", "input", "output", "batch_size", "functional", "state", "conditions", "base", "coverage"},
    "report": {"inputs", "output"},
    "study": {"dry_run", "pilot", "failed"},
}  # fmt: skip


@pytest.mark.parametrize(("stage", "choice"), choices(), ids=str)
def test_every_key_of_every_choice_is_known(stage: str, choice: str) -> None:
    if choice == "overlap=drop_source" and stage == "transfer":
        return
    made = config(stage, choice)
    idle = idle_keys(stage, made)
    functions = [place for place, _ in nodes(made)]
    described = dict(data_nodes(made))
    for key in leaves(made):
        place, _, name = key.rpartition(".")
        known = (
            key in {*ANYWHERE, "stage", "plugins", "seed", "logger"} | STRUCTURE[stage]
            or why(key, idle) is not None
            or any(key.startswith(f"{function}.") for function in functions)
            or (place in described and name in KEYS)
            or place in ("graph", "fetch")
            or key.startswith("graph.")
            or ((key == "checks" or place == "limits") and stage != "report")
            or (stage == "study" and key.startswith("study."))
        )
        assert known, f"nobody says whether {stage} reads {key}"
