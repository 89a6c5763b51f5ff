"""The potential SevenNet (Park and others, doi:10.1021/acs.jctc.4c00190), from the package sevenn.

Its weights ship with the package, as pickles; ``tensors_only`` reads them.
"""

import contextlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tltool.data.record import Crystal, Floats
from tltool.errors import ConfigError
from tltool.potentials import tensors_only
from tltool.potentials.potential import Mechanics, Sites
from tltool.potentials.quiet import quiet

_PREFIX = "SevenNet_"
_GPA = 160.2176634
"""One eV/Å3 in GPa."""
_OLD_KEYS = {"continue", "load_dataset_path", "load_validset_path", "load_trainset_path"}
"""Settings of the training, with paths of its authors."""
_VOIGT = [[0, 3, 5], [3, 1, 4], [5, 4, 2]]


class SevenNet:
    """The network with the set ``weights`` of the package: level 0 is the element embedding, level k after layer k.

    A level has the scalars of the features alone, which do not change when the crystal is rotated. ``cache`` is the
    folder for converted weights. Raise ConfigError for weights that the package does not have.
    """

    def __init__(self, cache: Path, /, *, weights: str) -> None:
        with quiet():
            import sevenn
            from sevenn.checkpoint import _config_cp_routine
            from sevenn.model_build import build_E3_equivariant_model
            from sevenn.scripts.backward_compatibility import patch_state_dict_if_old
        folder = Path(sevenn.__file__).parent / "pretrained_potentials"
        files = sorted((folder / f"{_PREFIX}{weights}").glob("*.pth"))
        if not files:
            known = ", ".join(sorted(path.name.removeprefix(_PREFIX) for path in folder.iterdir() if path.is_dir()))
            raise ConfigError(f"weights={weights} are not in the package sevenn; use one of {known}.")
        found = tensors_only.weights(files[0], cache, _pick)
        settings = found.settings | {"_type_map": {int(z): k for z, k in found.settings["_type_map"].items()}}
        with quiet():
            config = _config_cp_routine(settings)  # type: ignore[no-untyped-call]
            self._network = build_E3_equivariant_model(config)
            tensors = patch_state_dict_if_old(found.tensors, config, self._network)  # type: ignore[no-untyped-call]
            self._network.load_state_dict(tensors)
        self._network.set_is_batch_data(False)
        self._network.eval().requires_grad_(False)
        self._known, self._cutoff = set(settings["_type_map"]), float(config["cutoff"])
        self._scalars = int(config["channel"])
        self.version, self.digest = version("sevenn"), found.digest
        layers = [
            layer
            for name, layer in self._network.named_children()
            if name == "onehot_to_feature_x" or name.endswith("_equivariant_gate")
        ]
        self.widths = (self._scalars,) * len(layers)
        self._levels: list[Tensor] = []
        for layer in layers:
            layer.register_forward_hook(self._keep)

    def sites(self, crystal: Crystal, /) -> Sites:
        """Return the features of the sites at every level, and the energy in eV/atom; see ``Potential``."""
        energy = self.energy(crystal)
        return Sites([level.double().numpy() for level in self._levels], energy)

    def energy(self, crystal: Crystal, /) -> float:
        """Return the energy in eV/atom."""
        return float(self._run(crystal, gradients=False)["inferred_total_energy"]) / len(crystal.numbers)

    def forces(self, crystal: Crystal, /) -> Floats:
        """Return the forces (s, 3) in eV/Å."""
        return _array(self._run(crystal, gradients=True)["inferred_force"])

    def mechanics(self, crystal: Crystal, /) -> Mechanics:
        """Return energy, forces and stress; see ``Potential``."""
        found = self._run(crystal, gradients=True)
        stress = -_GPA * _array(found["inferred_stress"]).reshape(6)[_VOIGT]
        energy = float(found["inferred_total_energy"].detach()) / len(crystal.numbers)
        return Mechanics(energy, _array(found["inferred_force"]), stress)

    def _keep(self, layer: nn.Module, given: Any, out: Any) -> None:
        self._levels.append(out["x"].detach()[:, : self._scalars])

    def _run(self, crystal: Crystal, gradients: bool) -> Any:
        self._levels.clear()
        data = self._graph(crystal)
        with quiet(), contextlib.nullcontext() if gradients else torch.no_grad():
            data = self._network._preprocess(data)
            for name, layer in self._network.named_children():
                if gradients or name != "force_output":
                    data = layer(data)
        return data

    def _graph(self, crystal: Crystal) -> Any:
        from ase import Atoms

        if crystal.amounts is not None:
            raise ValueError("a formula has no structure")
        if strange := sorted(set(crystal.numbers.tolist()) - self._known):
            raise ValueError(f"element {strange[0]} is not among the {len(self._known)} that SevenNet knows")
        with quiet():
            from sevenn.atom_graph_data import AtomGraphData
            from sevenn.train.dataload import unlabeled_atoms_to_graph

            atoms = Atoms(crystal.numbers, scaled_positions=crystal.frac, cell=crystal.lattice, pbc=True)
            return AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, self._cutoff))


def _pick(held: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    settings = {name: value for name, value in held["config"].items() if name not in _OLD_KEYS}
    return dict(held["model_state_dict"]), json.loads(json.dumps(settings, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return value.tolist()
    return str(value)


def _array(found: Tensor) -> Floats:
    return np.asarray(found.detach(), dtype=np.float64)
