"""The potential CHGNet (Deng and others, doi:10.1038/s42256-023-00716-3), from the package chgnet.

Its weights ship with the package, as pickles; ``tensors_only`` reads them.
"""

import contextlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tltool.data.record import Crystal, Floats
from tltool.errors import ConfigError
from tltool.potentials import tensors_only
from tltool.potentials.potential import Mechanics, Sites
from tltool.potentials.quiet import quiet

if TYPE_CHECKING:
    from chgnet import PredTask
    from chgnet.graph.crystalgraph import CrystalGraph

_OLD_BIAS = "0.2.0"
"""Weights whose network has a bias in its last layer, which the file does not say."""


class CHGNet:
    """The network with the set ``weights`` of the package: level 0 is the element embedding, level k after layer k.

    ``cache`` is the folder for converted weights. Raise ConfigError for weights that the package does not have.
    """

    def __init__(self, cache: Path, /, *, weights: str) -> None:
        with quiet():
            import chgnet
            from chgnet.model.model import CHGNet as Network
        folder = Path(chgnet.__file__).parent / "pretrained"
        files = sorted((folder / weights).glob("*.tar"))
        if not files:
            known = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
            raise ConfigError(f"weights={weights} are not in the package chgnet; use one of {known}.")
        found = tensors_only.weights(files[0], cache, _pick)
        with quiet():
            self._network = Network(**found.settings, mlp_out_bias=weights == _OLD_BIAS, version=weights)
        self._network.load_state_dict(found.tensors)
        self._network.eval().requires_grad_(False)
        # A site alone is no error: its features are those of a free atom.
        self._network.graph_converter.set_isolated_atom_response("ignore")
        self.version, self.digest = version("chgnet"), found.digest
        layers = (self._network.atom_embedding, *self._network.atom_conv_layers)
        self.widths = (int(self._network.atom_fea_dim),) * len(layers)
        self._levels: list[Tensor] = []
        for layer in layers:
            layer.register_forward_hook(self._keep)

    def sites(self, crystal: Crystal, /) -> Sites:
        """Return the features of the sites at every level, and the energy in eV/atom; see ``Potential``."""
        found = self._run(crystal, "e")
        return Sites([level.double().numpy() for level in self._levels], float(found["e"]))

    def energy(self, crystal: Crystal, /) -> float:
        """Return the energy in eV/atom."""
        return float(self._run(crystal, "e")["e"])

    def forces(self, crystal: Crystal, /) -> Floats:
        """Return the forces (s, 3) in eV/Å."""
        return _array(self._run(crystal, "ef")["f"])

    def mechanics(self, crystal: Crystal, /) -> Mechanics:
        """Return energy, forces and stress; see ``Potential``."""
        found = self._run(crystal, "efs")
        return Mechanics(float(found["e"]), _array(found["f"]), _array(found["s"]))

    def _keep(self, layer: nn.Module, given: Any, out: Tensor) -> None:
        self._levels.append(out.detach())

    def _run(self, crystal: Crystal, task: "PredTask") -> dict[str, Any]:
        self._levels.clear()
        graph = self._graph(crystal)
        gradients = contextlib.nullcontext() if task != "e" else torch.no_grad()
        with gradients, quiet():
            found: Any = self._network.predict_graph(graph, task=task)
        return dict(found)

    def _graph(self, crystal: Crystal) -> "CrystalGraph":
        from pymatgen.core.lattice import Lattice
        from pymatgen.core.structure import Structure

        known = self._network.atom_embedding.embedding.num_embeddings
        if crystal.amounts is not None:
            raise ValueError("a formula has no structure")
        if crystal.numbers.max() > known:
            raise ValueError(f"element {int(crystal.numbers.max())} is not among the {known} that CHGNet knows")
        structure = Structure(Lattice(crystal.lattice), crystal.numbers.tolist(), crystal.frac)
        with quiet():
            found: CrystalGraph = self._network.graph_converter(structure)
        return found


def _pick(held: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return dict(held["model"]["state_dict"]), dict(held["model"]["model_args"])


def _array(found: Any) -> Floats:
    return np.asarray(found, dtype=np.float64)
