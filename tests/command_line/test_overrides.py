"""An override that no run reads is refused, in one sentence with a remedy that works."""

import re
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from support import cell, config

from tltool.command_line.overrides import BeforeSweep, refuse, refuse_hydra
from tltool.data import union
from tltool.data.dataset import Means
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.errors import ConfigError, DataError, TltoolError, standing_at
from tltool.training import setup

SET_MODEL = ["mode=features", "mode/regressor=atom_set", "mode.level=[1]"]

IDLE = [
    ("transfer", ["target=dielectric", "target.data.quantities=[gap]"],
     "target.data.quantities=[gap] has no effect: transfer learns target.quantities; use target.quantities=[gap]."),
    ("transfer", ["mode=features", "fit.epochs=50"],
     "fit.epochs=50 has no effect: features fits RidgeCV directly and trains nothing in steps; leave it out, or train "
     "a linear head with mode.regressor=null."),
    ("transfer", ["mode=features", "mode/regressor=svr", "optimiser=sgd"], "optimiser=sgd has no effect: features"),
    ("transfer", ["mode=features", "optimiser.lr=0.1"], "optimiser.lr=0.1 has no effect: features fits RidgeCV"),
    ("transfer", ["mode=scratch", "fit.schedule=cosine", "fit.warmup=0.1"], "use fit.schedule=onecycle."),
    ("pretrain", ["fit.period=9"], "use fit.schedule=triangular."),
    ("transfer", ["mode=scratch", "source_head=keep"], "use a mode that has mode.head, such as finetune."),
    ("transfer", ["mode.head=new", "source_head=keep"], "no mode.head follows it here"),
    ("transfer", ["fit.epochs=0", "fit.batch_size=8"], "fit.batch_size=8 has no effect: fit.epochs=0 trains nothing"),
    ("transfer", ["fit.epochs=0", "mode.l2_sp=0.1"], "mode.l2_sp=0.1 has no effect: fit.epochs=0 trains nothing"),
    ("transfer", ["mode=lora", "fit.epochs=0", "mode.rank=2"], "mode.rank=2 has no effect"),
    ("transfer", ["split.val=0", "fit.patience=3"], "keep some, as split.val=0.1."),
    ("transfer", ["'fit.weights={log10_K_VRH: 2}'".strip("'")], "log10_K_VRH alone is learnt"),
    ("transfer", [*SET_MODEL, "mode.statistics=[std]"], "choose its pools, as mode.regressor.pools=[mean,set2set]."),
    ("transfer", [*SET_MODEL, "mode.regressor.steps=2"], "use mode.regressor.pools=[set2set]."),
    ("transfer", ["mode=features", "mode.level=trunk", "mode.statistics=[std]"], "level=trunk needs no statistics"),
    ("transfer", ["mode=features", "mode.level=[0]", "mode.refit_statistics=true"], "name a higher level"),
    ("transfer", ["mode=auto", "mode.candidates.labels.statistics=[std]"], "mode.candidates.labels.level=[0,1]."),
    ("transfer", ["mode=auto", "+mode.most_rows.svr=50"], "mode.candidates has no svr"),
    ("transfer", ["target=table", "target.data.root=x", "target.data.adapter.formula_column=f",
                  "target.data.adapter.structure_column=s"], "set target.data.adapter.formula_column=null."),
    ("transfer", ["+data@target.base=demo", "target.base.quantities=[gap]"], "use target.quantities=[gap]."),
    ("transfer", ["target=mp_gap", "target.data.root=DIR", "target.data.fetch.query.elements=[Li]"],
     "set target.data.root=null."),
    ("pretrain", ["quantities=[e_above_hull]", "data.quantities=[e_form]"], "use quantities=[e_form]."),
    ("pretrain", ["overlap=drop_source", "overlap.ids=x", "overlap.rows=held_out"],
     "name one, as target@overlap.target=NAME."),
    ("pretrain", ["overlap=drop_source", "target@overlap.target=dielectric", "overlap.target.name=x"], "looked up"),
    ("pretrain", ["trunk.depth=0", "trunk.width=8"], "use trunk.depth=1."),
    ("pretrain", ["readout=atom_set", "readout.query=8"], "use readout.pools=[set2set]."),
    ("pretrain", ["graph.max_neighbours=null", "graph.shells=whole"], "set a cap, as graph.max_neighbours=12."),
    ("pretrain", ["encoder=megnet", "state=[charge]", "encoder.state_inputs=2"], "use state=[TAG,...]."),
    ("pretrain", ["data=functionals", "+data.root=x"], "use data.parts.pbe.root and data.parts.pbesol.root"),
    ("prepare", ["data.quantities=[gap]"], "prepare reads every label of a data set; leave it out."),
    ("prepare", ["seed=3"], "seed=3 has no effect: prepare draws nothing at random; leave it out."),
    ("eval", ["data@base=demo"], "name the data, as data=NAME."),
    ("eval", ["seed=1"], "eval draws nothing at random"),
    ("predict", ["input=x", "seed=1"], "predict draws nothing at random"),
    ("report", ["plugins=[mine]"], "report calls nothing that a package could bring"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "words", "says"), IDLE, ids=lambda x: " ".join(x) if isinstance(x, list) else None)
def test_what_no_run_reads_is_refused_and_the_remedy_works(stage: str, words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse(stage, [cell(stage, *words)], sweep=False)
    said = str(caught.value)
    assert said.startswith(f"{words[-1]} has no effect: ")
    assert says in said
    refuse(stage, [cell(stage, *words[:-1])], sweep=False)  # left out
    *_, advice = said.rpartition("; ")
    # ``plain=value`` in the advice is what to give besides, or in place of the word that has no effect.
    for remedy in re.findall(r"(?:use|as|with|set) ([\w.@]+=[^\s;]+[\w\]])", advice):
        if "NAME" in remedy or "TAG" in remedy:
            continue
        replaced = remedy.partition("=")[2] == words[-1].partition("=")[2] or "choose" in advice
        others = [word for word in words[:-1] if word.partition("=")[0] != remedy.partition("=")[0]]
        refuse(stage, [cell(stage, *others, remedy, *([] if replaced else words[-1:]))], sweep=False)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("pretrain", ["data.quantities=[e_above_hull]"]),  # quantities follows it
        ("transfer", ["target=table", "target.data.root=x", "target.data.quantities=[gap]"]),
        ("prepare", ["data=table", "data.root=x", "data.quantities=[gap]"]),  # the columns of the table follow it
        ("transfer", ["mode=features", "fit.scale=log", "fit.reference=true", "fit=pretrain"]),
        ("transfer", ["mode=features", "mode.regressor=null", "fit.epochs=5", "optimiser.lr=0.1"]),
        ("transfer", [*SET_MODEL, "fit.epochs=5"]),
        ("transfer", ["mode=auto", "fit.epochs=5"]),
        ("transfer", ["mode=freeze", "source_head=keep"]),
        ("transfer", ["mode=auto", "source_head=keep"]),
        ("pretrain", ["head=mlp", "head.widths=[8]", "trunk=residual", "trunk.rezero=false"]),
        ("transfer", ["fit.mixed_precision=false", "fit.cuda_graphs=false", "device=cpu"]),
        ("report", ["device=cpu", "threads=1", "workers=1", "kernels=torch", "cache=x", "runs=x"]),
        ("transfer", ["~target.data.citation", "experiment=atomsets_small"]),
        ("pretrain", ["encoder=alignn", "graph=whole", "readout=set2set", "trunk.width=8"]),
    ],
    ids=str,
)
def test_what_is_read_is_accepted(stage: str, words: list[str]) -> None:
    refuse(stage, [cell(stage, *words)], sweep=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mode=scratch,features", "seed=0,1", "fit.epochs=50"], None),
        (["mode=features,finetune", "mode.head=keep,new"], None),  # Hydra says that features has no head
        (["mode=features", "mode/regressor=ridge,atom_set", "fit.epochs=1,2"], None),
        (["mode=features", "mode/regressor=ridge,svr", "seed=range(0,2000)", "fit.epochs=50"],
         r"^fit\.epochs=50 has no effect in any run of this sweep: features fits RidgeCV"),
        (["target=dielectric,bulk_modulus", "target.data.quantities=[gap]"], "use target.quantities"),
        (["mode=features", "optimiser.lr=0.1,0.2"], r"^optimiser\.lr=0.1 has no effect in any run"),
    ],
    ids=str,
)  # fmt: skip
def test_of_a_sweep_some_run_has_to_read_it(
    words: list[str], says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.perf_counter()
    with initialize_config_module("tltool.configs", version_base="1.3"):
        master = compose("transfer", return_hydra_config=True)
        master.hydra.overrides.task = words
        if says is None:
            BeforeSweep().on_multirun_start(master)
            return
        with pytest.raises(SystemExit) as stop:
            BeforeSweep().on_multirun_start(master)
    assert stop.value.code == ConfigError.code
    assert re.search(says, capsys.readouterr().err.removeprefix("tltool: "))
    assert time.perf_counter() - began < 60, "seeds are not composed one by one"


def test_keys_of_hydra(capsys: pytest.CaptureFixture[str]) -> None:
    refuse_hydra(["hydra.run.dir=here"], sweep=False)
    refuse_hydra(["hydra.sweep.dir=here", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], sweep=True)
    for words, sweep, says in (
        (["hydra.run.dir=here"], True, r"this is a sweep; use hydra\.sweep\.dir=here\.$"),
        (["hydra.sweep.dir=here"], False, r"this is one run and no sweep; use hydra\.run\.dir=here, or add -m\.$"),
        (["hydra/launcher=joblib"], False, r"leave it out, or add -m\.$"),
    ):
        with pytest.raises(ConfigError, match=says):
            refuse_hydra(words, sweep=sweep)


def test_a_remedy_names_the_key_of_this_command(tmp_path: Path) -> None:
    file = tmp_path / "matbench_phonons.json.gz"
    file.write_bytes(b"another file")
    graph_settings = GraphSettings(cutoff=8.0, max_neighbours=12, shells="shared", quotient=True)
    for place, words in (
        ("target.data", ["target=matbench_phonons"]),
        ("target.base", ["+data@target.base=matbench_phonons"]),
    ):
        made = config("transfer", *words, f"{place}.root={file}")
        description = made["target"][place.rpartition(".")[2]]
        with pytest.raises(DataError, match=rf"\({place}\.root=null\), or pass {place}\.sha256=null to") as caught:
            setup.data_set(made | {"cache": str(tmp_path)}, description, graph_settings, print)
        (remedy,) = re.findall(r"pass (\S+=null)", str(caught.value))
        again = config("transfer", *words, f"{place}.root={file}", remedy)
        description = again["target"][place.rpartition(".")[2]]
        with pytest.raises(TltoolError) as other:  # it goes on to read the file, which is none
            setup.data_set(again | {"cache": str(tmp_path)}, description, graph_settings, print)
        assert "sha256" not in str(other.value)
    parts = config("pretrain", "data=functionals", "data.parts.pbe.root=nowhere")["data"]
    with pytest.raises(DataError, match=r"^data\.parts\.pbe\.root=nowhere does not exist"):
        union.opened(parts, graph_settings, Means(tmp_path, [], 1, print))


def test_a_message_keeps_what_is_no_key() -> None:
    with pytest.raises(DataError) as caught, standing_at("target.data", "data"):
        raise DataError("data.csv: column x of /a/data.root is no data.root; correct data.root or my.data.root.")
    assert str(caught.value) == (
        "data.csv: column x of /a/data.root is no target.data.root; correct target.data.root or my.data.root."
    )
