"""Check the numbers that make a part of a model: widths, blocks, steps, distances."""

import math

from tltool.errors import ConfigError


def require_whole(part: str, least: int, /, **given: int) -> None:
    """Raise ConfigError unless each number is whole and at least ``least``; names are those of the keys of ``part``."""
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{part}.{name}={value} must be a whole number of {least} or more.")


def require_positive(part: str, /, **given: float) -> None:
    """Raise ConfigError unless each number is finite and above zero; names are those of the keys of ``part``."""
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ConfigError(f"{part}.{name}={value} must be a number above 0.")
