"""What is ALIGNN's own beside the contract of all encoders: its size, its parts, and what it sees."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import ROOT, config, fresh_model, graph_settings_of

from tltool import instantiate
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.model.surgery import edit

PUBLISHED = 4_026_753
"""Trainable parameters of ``alignn.models.alignn.ALIGNN`` at its defaults (alignn 2026.8.11), its head included."""


def test_the_published_size() -> None:
    encoder = instantiate.call(config("pretrain", "encoder=alignn")["encoder"])
    head = 256 + 1
    unread_norms = 2 * 2 * 256
    element_features = (92 - encoder.table.shape[1]) * 256
    assert sum(p.numel() for p in encoder.parameters()) == PUBLISHED - head - unread_norms - element_features


def strategies() -> list[tuple[str, str]]:
    """Return name and regexes of the freezing strategies in the comments of the YAML."""
    text = (ROOT / "configs" / "encoder" / "alignn.yaml").read_text(encoding="utf-8")
    return re.findall(r"^#   ([a-z -]+?)  +mode\.parts='(\[.*?\])'", text, re.MULTILINE)


@pytest.mark.parametrize(("name", "parts"), strategies())
def test_freezing_strategies(name: str, parts: str) -> None:
    model = fresh_model(encoder="alignn_small")
    edit.freeze(model, config("transfer", "mode=freeze", f"mode.parts={parts}")["mode"]["parts"])
    free = {n for n, p in model.named_parameters() if p.requires_grad and n.startswith("encoder.")}
    everything = {n for n, _ in model.named_parameters() if n.startswith("encoder.")}
    expected = {
        "two-body train": {n for n in everything if "two_body" in n},
        "three-body train": {n for n in everything if "three_body" in n},
        "last layer train": set(),
        "new head": set(),
        "all but elements": {n for n in everything if not n.startswith("encoder.embedding.")},
    }
    assert free == expected[name]
    assert any(p.requires_grad for n, p in model.named_parameters() if not n.startswith("encoder."))


def test_all_strategies_are_found() -> None:
    assert len(strategies()) == 5


def levels_of(crystals: list[Crystal], training: bool) -> list[torch.Tensor]:
    """Site features of crystals of one site, or a few of different kinds: (crystals, sites, dim) of every level."""
    graph_settings = replace(graph_settings_of("alignn_small"), cutoff=3.5)
    graph = tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))
    levels = fresh_model(encoder="alignn_small").train(training).levels(graph)
    return [level.detach().unflatten(0, (len(crystals), -1)) for level in levels]


@pytest.mark.usefixtures("double")
def test_angles_tell_apart_what_distances_do_not() -> None:
    """A net of A between B and C, rectangular and oblique: the same distances up to the cutoff, other angles."""
    frac, numbers = np.array([[0.0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]]), np.array([6, 7, 8])
    nets = []
    for angle in (90.0, 80.0):
        a = np.radians(angle)
        nets.append(
            Crystal(np.array([[6.0, 0, 0], [6.4 * np.cos(a), 6.4 * np.sin(a), 0], [0, 0, 20.0]]), frac, numbers)
        )
    levels = levels_of(nets, training=True)
    # Angles change the edges into B and C, then those into A, then how much A hears of either.
    for level in levels[:3]:
        torch.testing.assert_close(level[0], level[1], atol=1e-5, rtol=1e-5)
    assert float((levels[3][0] - levels[3][1]).abs().max()) > 1e-3


@pytest.mark.usefixtures("double")
def test_where_all_sites_are_equal_alignn_sees_the_element_alone() -> None:
    """Gates weigh neighbours against each other, and equal ones have nothing to weigh; in the published code too."""
    short, long = (Crystal(a * np.eye(3), np.zeros((1, 3)), np.array([84])) for a in (2.8, 3.2))
    for level in levels_of([short, long], training=False):
        torch.testing.assert_close(level[0], level[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("key", ["line_blocks", "blocks"])
def test_both_kinds_of_blocks_are_needed(key: str) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        instantiate.call(config("pretrain", "encoder=alignn_small", f"encoder.{key}=0")["encoder"])


def test_it_brings_its_graph_along() -> None:
    for encoder in ("alignn", "alignn_small"):
        assert config("pretrain", f"encoder={encoder}")["graph"] == config("pretrain", "graph=angles")["graph"]
        assert config("pretrain", f"encoder={encoder}", "graph=full")["graph"]["angles"] is False
        assert config("pretrain", f"encoder={encoder}", "graph.cutoff=5.0")["graph"]["cutoff"] == 5.0
    assert config("pretrain")["graph"]["angles"] is False
