"""One door per dependency, and what may stand where."""

import ast
from functools import cache
from pathlib import Path

import pytest
from support import ROOT

DOORS = {
    "h5py": {"data/store.py"},
    "pymatgen": {
        "data/record.py", "data/graph/neighbours.py", "data/formats/cif/cif_text.py", "data/overlap/structure_match.py",
        "data/materials_project/api_key.py", "evaluation/predictor.py",
        "potentials/chgnet.py",
    },
    "dgl": {"model/kernels/dgl.py"},
    "triton": {"model/kernels/cgcnn_triton.py", "model/kernels/cgcnn_triton_passes.py"},
    "gemmi": {"data/formats/cif/cif_file.py", "data/formats/cif/cif_text.py", "data/formats/cif/space_groups.py"},
    "moyopy": {"data/overlap/fingerprint.py", "data/formats/cif/space_groups.py"},
    "ase": {"data/formats/structure_files.py", "data/adapters/ase_database.py", "potentials/sevennet.py"},
    "pyarrow": {"data/formats/tables.py"},
    "requests": {"data/download/http.py"},
    "mp_api": {"data/materials_project/client.py"},
    "urllib3": {"data/download/http.py"},
    "skops": {"training/saved_model/estimator_file.py"},
    "safetensors": {"training/saved_model/checkpoint.py", "potentials/tensors_only.py"},
    "chgnet": {"potentials/chgnet.py"},
    "sevenn": {"potentials/sevennet.py"},
    "phonopy": {"potentials/zone_maximum.py"},
    "matplotlib": {"class_plots.py", "plot_style.py", "plots.py"},
    "hydra": {"command_line/launch.py", "command_line/mistakes.py", "command_line/overrides.py"},
    "tensorboard": set(),
    "wandb": {"loggers/weights_and_biases.py"},
    "pickle": set(),
    "joblib": set(),
    "threadpoolctl": {"training/setup.py"},
}  # fmt: skip
FORBIDDEN_NAMES = {"utils.py", "common.py", "helpers.py", "base.py", "util.py", "misc.py"}


@cache
def trees() -> dict[Path, list[ast.AST]]:
    """Return the nodes of each file of the code."""
    files = sorted((ROOT / "tltool").rglob("*.py"))
    return {path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in files}


@cache
def imports() -> list[tuple[str, str]]:
    found = []
    for path, nodes in trees().items():
        for node in nodes:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found += [(name.split(".")[0], str(path.relative_to(ROOT / "tltool"))) for name in names]
    return found


@pytest.mark.parametrize("package", DOORS)
def test_one_door_per_dependency(package: str) -> None:
    assert {where for name, where in imports() if name == package} <= DOORS[package]


def test_no_catch_all_modules_and_empty_inits() -> None:
    files = sorted((ROOT / "tltool").rglob("*.py"))
    assert [f for f in files if f.name in FORBIDDEN_NAMES] == []
    inits = [f for f in files if f.name == "__init__.py" and f.parent != ROOT / "tltool"]
    assert [f for f in inits if f.read_text().strip()] == []


# A module for each kernel that pays, what builds and checks them, and what puts them into a model.
CROWDED = {"model/kernels": 15}


def test_a_folder_holds_at_most_14_modules() -> None:
    """Sub-folders and ``__init__`` are not counted; exceptions are named."""
    folders = {path.parent for path in (ROOT / "tltool").rglob("*.py")}
    counts = {
        folder.relative_to(ROOT / "tltool").as_posix(): len([f for f in folder.glob("*.py") if f.name[0] != "_"])
        for folder in folders
    }
    assert {name: n for name, n in counts.items() if n > 14} == CROWDED


def test_user_input_is_never_checked_with_assert() -> None:
    for path, nodes in trees().items():
        assert not [n for n in nodes if isinstance(n, ast.Assert)], path
