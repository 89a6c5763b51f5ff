"""Return the distance of each tensor from the head: heads, readout and trunk, the encoder's blocks, the embedding."""

import re

from torch import nn

from tltool.model.property_model import PropertyModel


def depths(model: PropertyModel) -> dict[str, int]:
    """Return {name: depth} of every parameter and buffer, counted from the head.

    0 heads and scalers, also those of the source while its rows are replayed, 1 readout and trunk, 2 the last block of
    the encoder, and so on; the rest of the encoder, which comes before its blocks, is deepest. Blocks are the members
    of the encoder's module lists, in their order.
    """
    lists = [(name, part) for name, part in model.encoder.named_children() if isinstance(part, nn.ModuleList)]
    blocks = [f"encoder.{name}.{k}." for name, part in lists for k in range(len(part))][::-1]
    names = [name for name, _ in [*model.named_parameters(), *model.named_buffers()]]
    return {name: _depth(name, blocks) for name in names}


def below(model: PropertyModel, depth: int) -> list[str]:
    """Return the patterns with which ``edit.freeze`` freezes everything deeper than ``depth``."""
    deeper = {name: steps > depth for name, steps in depths(model).items()}
    parts = [name for name, _ in model.named_modules() if name]
    inside = {part: [held for name, held in deeper.items() if name.startswith(f"{part}.")] for part in parts}
    whole = [part for part, held in inside.items() if held and all(held)]
    single = [name for name, _ in model.named_parameters() if deeper[name]]
    return [re.escape(name) for name in [*whole, *single]]


def _depth(name: str, blocks: list[str]) -> int:
    if name.startswith(("heads.", "scalers.", "source_task.")):
        return 0
    if not name.startswith("encoder."):
        return 1
    return 2 + next((k for k, block in enumerate(blocks) if name.startswith(block)), len(blocks))
