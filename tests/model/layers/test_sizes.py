"""A number that makes no part of a model ends with a sentence that names its key."""

from collections.abc import Iterator

import pytest
import yaml
from support import ROOT, fresh_model

from tltool.errors import ConfigError
from tltool.model.layers import sizes


def numbers() -> Iterator[tuple[str, str, str]]:
    """Yield the group, the name and the key of every number in the YAML of a part of a model."""
    for group in ("encoder", "readout", "trunk", "head"):
        for file in sorted((ROOT / "configs" / group).glob("*.yaml")):
            node = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            for key, value in node.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    yield group, file.stem, key


@pytest.mark.parametrize(("group", "name", "key"), list(numbers()))
def test_a_negative_number_is_refused_by_its_key(group: str, name: str, key: str) -> None:
    chosen = () if group == "encoder" else (f"{group}={name}",)
    with pytest.raises(ConfigError, match=rf"^{group}\.{key}=-1 must be a (whole )?number"):
        fresh_model(encoder=name if group == "encoder" else "cgcnn", overrides=(*chosen, f"{group}.{key}=-1"))


@pytest.mark.parametrize("encoder", ["cgcnn", "alignn"])
def test_a_single_gaussian_has_no_spacing(encoder: str) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.n_basis=1 must be a whole number of 2 or more"):
        fresh_model(encoder=encoder, overrides=("encoder.n_basis=1",))


@pytest.mark.parametrize("value", [0, True, 1.5, "a"])
def test_whole_numbers(value: object) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.dim="):
        sizes.require_whole("encoder", 1, dim=value)  # type: ignore[arg-type]
    sizes.require_whole("encoder", 1, dim=1)


@pytest.mark.parametrize("value", [0.0, -1, float("inf"), float("nan"), True])
def test_positive_numbers(value: float) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.basis_stop="):
        sizes.require_positive("encoder", basis_stop=value)
    sizes.require_positive("encoder", basis_stop=8)
