"""What may differ between a run and the one that it continues, and how a schedule takes up changed settings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from tltool.errors import ConfigError

_FREE = ("runs", "cache", "device", "threads", "workers", "kernels", "logger", "resume", "resume_allow", "keep_every")
"""Where a run computes and what it writes, which changes no number."""
_DATA = ("data", "split", "quantities", "overlap", "checks", "limits")
_STEPS = ("optimiser", "fit.epochs", "fit.schedule", "fit.warmup", "fit.period", "fit.batch_size")


def fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``config`` that must stay the same when a run continues, as plain JSON values."""
    return dict(json.loads(json.dumps({k: v for k, v in config.items() if k not in _FREE}, default=str)))


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Return the dotted names of the keys that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [d for k in keys for d in differences(one.get(k), other.get(k), f"{name}.{k}".lstrip("."))]
    return [] if one == other else [name]


def harmful(old: Mapping[str, Any], new: Mapping[str, Any], allowed: Sequence[str]) -> list[str]:
    """Return the keys that differ although nobody ``allowed`` it; more epochs are harmless, and so is a moved folder.

    ``old`` and ``new`` are as ``fixed`` returns them. The rows and labels of data at another place are compared too.
    """
    more = _epochs(new) > _epochs(old)
    free = {"data.root"} | ({"fit.epochs"} if more else set())
    return [key for key in differences(old, new) if key not in free and not _within(key, allowed)]


def refuse_unknown(allowed: Sequence[str], config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a word of ``resume_allow`` that is no key of ``config``."""
    for word in allowed:
        node: Any = config
        for part in str(word).split("."):
            if not isinstance(node, Mapping) or part not in node:
                raise ConfigError(f"resume_allow names {word}, which is no key; name keys as in [optimiser.lr].")
            node = node[part]


def of_data(keys: Sequence[str]) -> bool:
    """Say if one of ``keys`` changes the rows that are trained on."""
    return any(_within(key, _DATA) and key != "data.root" for key in keys)


def of_steps(keys: Sequence[str]) -> bool:
    """Say if one of ``keys`` changes the optimiser or how many steps there are."""
    return any(_within(key, _STEPS) for key in keys)


def taken_up(optimiser: Optimizer, fresh: Sequence[Mapping[str, Any]], schedule: LRScheduler, steps: int) -> None:
    """Give the groups of ``optimiser`` the settings of ``fresh``, and put ``schedule`` where it is after ``steps``."""
    for group, own in zip(optimiser.param_groups, fresh, strict=True):
        group.update(own)
    if not steps:
        return
    # The schedule is a new one, which has made its first step; that of a cosine is computed from the one before.
    schedule._step_count = steps + 1
    if isinstance(schedule, CosineAnnealingLR):
        schedule.last_epoch = steps
        for group, rate in zip(optimiser.param_groups, schedule._get_closed_form_lr(), strict=True):
            group["lr"] = rate
        return
    schedule.last_epoch = steps - 1
    schedule.step()


def settings(optimiser: Optimizer) -> list[dict[str, Any]]:
    """Return the settings of each parameter group."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimiser.param_groups]


def _within(key: str, allowed: Sequence[str]) -> bool:
    return any(key == word or key.startswith(f"{word}.") for word in allowed)


def _epochs(config: Mapping[str, Any]) -> int:
    return int((config.get("fit") or {}).get("epochs") or 0)
