"""Several sources at once: what they are called, what they know of their crystals, and which do not go together."""

from pathlib import Path

import pytest
from support import fresh_model

from tltool.data.overlap import crystal_index
from tltool.errors import CheckpointError, ConfigError
from tltool.evaluation import source_crystals, sources
from tltool.run_folder import bundled_models
from tltool.training.backend import CPU
from tltool.training.saved_model import checkpoint

BOTH = ["bundled/cgcnn", "bundled/megnet"]


def saved(folder: Path, encoder: str = "cgcnn", **spec: object) -> Path:
    model = fresh_model(encoder=encoder)
    model = checkpoint.build(model.spec | spec)
    model.spec["provenance"] = [{"name": folder.name, "quantities": ["e_form"]}]
    checkpoint.save(folder, model)
    return folder


def test_a_name_or_a_list_of_names_gives_folders(tmp_path: Path) -> None:
    def folders(source: str | list[str], mode: str = "features") -> list[Path]:
        return sources.folders(source, tmp_path, mode, lambda text: None)

    assert folders("bundled") == [bundled_models.folder("bundled")]
    assert sources.word(folders("bundled", "auto")) == "[bundled/cgcnn,bundled/megnet]"
    assert folders("latest", "auto") == folders("bundled", "auto")
    assert folders("bundled/cgcnn", "auto") == folders("bundled")
    assert sources.word(folders("bundled/megnet")) == "bundled/megnet"
    assert sources.word(folders(BOTH)) == "[bundled/cgcnn,bundled/megnet]"
    with pytest.raises(ConfigError, match="name at least one"):
        folders([])
    with pytest.raises(ConfigError, match="cgcnn twice"):
        folders(["bundled/cgcnn", "bundled/cgcnn"])
    with pytest.raises(CheckpointError, match="no pretrained model bundled/x"):
        folders(["bundled/cgcnn", "bundled/x"])


def test_the_first_source_has_the_others_and_the_crystals_of_all(tmp_path: Path) -> None:
    paths = [bundled_models.folder(name) for name in BOTH]
    found = sources.loaded(paths, CPU, [])
    first, other = (sources.loaded([path], CPU, []) for path in paths)
    assert not first.more_sources
    assert list(found.more_sources) == ["megnet"]
    assert [len(found.state_dict()), found.quantities] == [len(first.state_dict()), first.quantities]
    indexes = [crystal_index.from_arrays(model.seen, "") for model in (found, first, other)]
    assert {(a, b) for one in indexes[1:] for a, b in zip(one.fingerprint.tolist(), one.id.tolist(), strict=True)} == {
        *zip(indexes[0].fingerprint.tolist(), indexes[0].id.tolist(), strict=True)
    }
    assert source_crystals.steps(found.spec) == [*first.spec["provenance"], *other.spec["provenance"]]
    said = sources.described(paths, found)
    assert said[0].startswith("Source: bundled/cgcnn, trained on e_form, gap")
    assert said[1].startswith("Further source: bundled/megnet, trained on e_form, gap")
    assert sources.digest(paths) != sources.digest(paths[:1])
    # One source of which nobody knows what it saw leaves the whole without an index.
    unknown = sources.loaded([paths[0], saved(tmp_path / "a")], CPU, [])
    assert list(unknown.more_sources) == ["cgcnn_2"]
    assert not unknown.seen


def test_sources_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    first = saved(tmp_path / "first")
    with pytest.raises(CheckpointError, match=r"first and .*angles differ in their graphs \(.*angles"):
        sources.loaded([first, saved(tmp_path / "angles", "alignn")], CPU, [])
    several = saved(tmp_path / "several", functionals=["PBE", "SCAN"])
    with pytest.raises(ConfigError, match="several tells functionals apart"):
        sources.loaded([first, several], CPU, [])
    assert sources.loaded([several, first], CPU, []).spec["functionals"] == ["PBE", "SCAN"]
