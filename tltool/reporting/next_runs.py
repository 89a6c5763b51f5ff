"""Recommend further runs where the difference to scratch is uncertain: the number of pairs and the command."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tltool.reporting.finished_runs import Result, command
from tltool.reporting.statistics import Paired, Summary
from tltool.reporting.wording import fixed, plural

FEW_ROWS = 200
"""Number of training rows up to which another draw of rows changes an error more than another seed does."""

_SEEDS = 5
_MOST = 50
_SPELLED = 10  # values that a command lists one by one
_POWER = 0.8
_RELATIVE = 0.15  # standard deviation of differences between draws / error of scratch, as measured in docs/modes.md
_WITH_VALUE = ("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "-p", "--package")
_REPLACED = ("mode", "seed", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")


class Advice(NamedTuple):
    """A sentence, and the command (or empty) that makes ``n`` pairs."""

    text: str
    command: str = ""
    n: int = 0


def advice(row: Summary, run: Result) -> Advice | None:
    """Return the runs that can detect the difference of ``row`` to scratch; None if it is certain or not measured.

    The command is the command of ``run``, with scratch as a further mode.
    """
    paired = row.paired
    if not paired or not math.isfinite(row.error.mean) or (paired.n > 1 and paired.verdict != "neutral"):
        return None
    varied = _varied(run)
    n, why = _wanted(row, paired, varied)
    return Advice(why, repeat(run, varied, n), n)


def is_on_the_way(run: Result) -> bool:
    """Return whether the sweep of ``run`` also runs its baseline, with several pairs."""
    _, overrides = _parted(command(run)[2:])
    given = {_key(word): word.partition("=")[2] for word in overrides}
    several = [key for key, value in given.items() if key == "seed" or key.startswith("split.") if _is_swept(value)]
    return "scratch" in _choices(given.get("mode"), run.mode) and bool(several)


def pairs_needed(difference: float, sd: float, most: int = 10_000) -> int:
    """Return the number of pairs, at most ``most``, that detect a mean ``difference`` (5 % level, 80 % power).

    ``sd`` is the standard deviation of the differences between pairs. Power of the two-sided paired t-test, from the
    noncentral t distribution (Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 2).
    """
    from scipy import stats

    if not difference:
        return most
    effect = abs(difference) / sd if sd else math.inf
    if effect == math.inf:
        return 2
    # Start with the lower bound from the normal distribution.
    n = max(2, math.ceil((float(stats.norm.ppf(0.975) + stats.norm.ppf(_POWER)) / effect) ** 2))
    while n < most:
        t, centre = stats.t.ppf(0.975, n - 1), effect * math.sqrt(n)
        if stats.nct.sf(t, n - 1, centre) + stats.nct.cdf(-t, n - 1, centre) >= _POWER:
            return n
        n += 1
    return most


def repeat(run: Result, varied: str, n: int) -> str:
    """Return the command line of ``run`` as a sweep over scratch and its own modes and ``n`` values of ``varied``.

    Other overrides are kept, and ``source=latest`` is replaced by the name of the source, so that the command repeats
    the same study. If there are overrides of the mode, scratch gets its own command without them. Return an empty text
    if the command of the run is not known.
    """
    words = command(run)
    if words[:2] != ["tltool", "transfer"]:
        return ""
    flags, overrides = _parted(words[2:])
    given = {_key(word): word.partition("=")[2] for word in overrides}
    modes = [name for name in _choices(given.get("mode"), run.mode) if name != "scratch"] or [run.mode]
    kept = [word for word in overrides if _key(word) not in (*_REPLACED, varied)]
    if given.get("source", "latest") == "latest" and run.source:
        kept = [word for word in kept if _key(word) != "source"] + [f"source={run.source}"]
    if varied != "seed" and "seed" in given:
        kept.append(f"seed={run.seed}")
    values = [f"{varied}={','.join(map(str, range(n))) if n <= _SPELLED else f'range({n})'}"]
    own = [word for word in kept if _is_of_mode(word)]
    others = [word for word in kept if not _is_of_mode(word)]
    start = ["tltool", "transfer", *flags, "-m"]
    if not own:
        return shlex.join([*start, *others, f"mode={','.join(['scratch', *modes])}", *values])
    alone = shlex.join([*start, *others, "mode=scratch", *values])
    return alone + "\n" + shlex.join([*start, *others, f"mode={','.join(modes)}", *own, *values])


def cross_validation(run: Result) -> list[Advice]:
    """Return the command that tests every row of a small data set in place of a few; empty for a large one.

    It is that of ``run``, one run and no sweep, with ``split=cv``.
    """
    split, words = run.identity.get("split") or {}, command(run)
    if not run.train_size or run.train_size >= FEW_ROWS or split.get("train_size") is not None:
        return []
    if words[:2] != ["tltool", "transfer"] or {"-m", "--multirun"} & set(words):
        return []
    flags, overrides = _parted(words[2:])
    kept = [word for word in overrides if _key(word).partition(".")[0] not in ("split", "hydra")]
    if "source" not in map(_key, kept) and run.source:
        kept.append(f"source={run.source}")
    text = (
        f"With {run.train_size:,} training rows a few test rows decide; cross-validation tests every row, with scratch "
        "on the same folds, and keeps a model of all rows."
    )
    return [Advice(text, shlex.join(["tltool", "transfer", *flags, *kept, "split=cv"]))]


def difference(words: Sequence[str], data: str, quantity: str, cheaper: str) -> Advice | None:
    """Return the command that learns the difference to the column ``cheaper`` of the same table.

    It is the command line ``words``, whose data are called ``data``. None for a sweep, and where a base is given.
    """
    if list(words[:2]) != ["tltool", "transfer"] or {"-m", "--multirun"} & set(words):
        return None
    flags, overrides = _parted(words[2:])
    if any(_key(word).startswith(("target.base", "data@target.base", "split.fold")) for word in overrides):
        return None
    kept = [word for word in overrides if not _key(word).startswith("hydra.")]
    own = ("target.data.quantities", "target.data.adapter.columns")
    copied = [
        word.replace("target.data", "target.base", 1) for word in kept if _is_of_data(word) and _key(word) not in own
    ]
    base = [f"+data@target.base={data}", *copied, f"target.base.quantities=[{quantity}]"]
    text = (
        f"The table also has {cheaper}, the same quantity at a cheaper level of theory. The difference to it often is "
        "easier to learn; predict then needs its value too."
    )
    return Advice(
        text, shlex.join(["tltool", "transfer", *flags, *kept, *base, f"target.base.adapter.columns=[{cheaper}]"])
    )


def _is_of_data(word: str) -> bool:
    return _key(word).startswith("target.data.")


def _wanted(row: Summary, paired: Paired, varied: str) -> tuple[int, str]:
    """Return the number of pairs to run, and the reason as a sentence."""
    n, scratch = paired.n, row.error.mean - (paired.mean if paired.n else 0.0)
    few, what = (row.place.train_size or math.inf) <= FEW_ROWS, "draw" if varied == "split.draw" else "seed"
    if not few and n < 2:
        return _SEEDS, f"{plural(_SEEDS, what)} give {plural(_SEEDS, 'pair')}."
    # The standard deviation of two or three differences is often far too small by chance.
    guess = _RELATIVE * abs(scratch)
    sd = paired.sd if n >= _SEEDS else max(paired.sd if n > 1 else 0.0, guess)
    difference = abs(paired.mean) if n else 0.1 * abs(scratch)
    needed = max(_SEEDS, pairs_needed(difference, sd))
    start = f"With {row.place.train_size:,} training crystals, " if row.place.train_size is not None else ""
    number = "more than 10,000" if needed >= 10_000 else f"about {needed:,}"
    seen = "the observed difference" if n else "a tenth of the error"
    text = (
        f"{start}{number} {what}s are needed to detect a difference of {fixed(difference)}{row.in_unit} ({seen}), if "
        f"its standard deviation between {what}s is {fixed(sd)}{row.in_unit}"
    )
    if needed <= _MOST:
        return needed, f"{text}."
    return _MOST, f"{text}; {_MOST} {what}s detect a difference of {fixed(_detected_by(sd, _MOST))}{row.in_unit}."


def _detected_by(sd: float, n: int) -> float:
    """Return the smallest difference that ``n`` pairs detect, by bisection."""
    low, high = 0.0, 4 * sd
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if pairs_needed(middle, sd, n + 1) <= n else (middle, high)
    return high


def _varied(run: Result) -> str:
    """Return the key that makes further pairs: ``split.draw`` if there are few drawn training rows, else ``seed``."""
    split = run.identity.get("split") or {}
    few = run.train_size is not None and run.train_size <= FEW_ROWS
    return "split.draw" if few and "draw" in split else "seed"


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags of Hydra without ``-m``, and the overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("-m", "--multirun"):
            continue
        if word in _WITH_VALUE:
            flags += [word, *_next(rest)]
        else:
            (flags if word.startswith("-") else overrides).append(word)
    return flags, overrides


def _next(rest: Iterator[str]) -> list[str]:
    return [word for word in [next(rest, "")] if word]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _is_of_mode(word: str) -> bool:
    return _key(word).startswith(("mode.", "mode/"))


def _is_swept(value: str) -> bool:
    return not value.startswith(("[", "{", "'", '"')) and ("," in value or value.startswith("range("))


def _choices(given: str | None, mode: str) -> list[str]:
    """Return the modes of a sweep; the mode of the run if they are not a plain list."""
    names = (given or mode).split(",")
    return names if all(name.isidentifier() for name in names) else [mode]
