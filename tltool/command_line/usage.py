"""The stages of ``tltool``, the text of ``tltool --help``, and what bash is offered after ``tltool``."""

import os

STAGES = {
    "prepare": ("stages.prepare", "read a data set and build its graphs"),
    "pretrain": ("stages.pretrain", "learn a backbone on a large, cheap data set"),
    "transfer": ("stages.transfer", "take it to a small data set of another quantity"),
    "eval": ("stages.evaluate", "errors of a trained model"),
    "predict": ("stages.predict", "a table of predictions for structure files"),
    "report": ("stages.report", "one page over all runs"),
    "study": ("study.stage", "many transfers by source, target, mode and size; one table and one page"),
}
"""Stage -> its module in ``tltool``, and what it does."""

TRAINING = ("pretrain", "transfer")
"""Stages that train: several processes of torchrun can work on them together, and each run of a sweep takes a GPU."""

_USAGE = """usage: tltool STAGE [overrides]

{stages}

  tltool pretrain                                  the bundled demo data
  tltool transfer target=bulk_modulus mode=freeze
  tltool transfer -m mode=scratch,finetune,freeze,features seed=0,1,2
  tltool predict input=my_structures/
  tltool study demo --dry-run                      how many runs, and how long they take

tltool STAGE --help      what can be set          tltool STAGE --help fit   a group of keys, or one key
tltool STAGE --cfg job   the config of a run
tltool show data elastic what a data set, target, encoder, mode or quantity is; without a name a list
tltool doctor            what this machine offers: GPU, compiler, folders; what to do where something is missing
tltool cache             what the cache and the runs hold, and their sizes; remove=NAME removes one
tltool --version         the version              eval "$(tltool -sc install=bash)"   completion in bash
"""


def usage() -> str:
    """Return the help text."""
    return _USAGE.format(stages="\n".join(f"  {name:<10}{what}" for name, (_, what) in STAGES.items()))


def settings_of(stage: str, words: list[str]) -> list[str]:
    """Return ``words`` with what ``tltool study NAME --dry-run`` is short for: ``study=NAME dry_run=true``."""
    if stage != "study":
        return words
    found = ["dry_run=true" if word == "--dry-run" else word for word in words]
    first = next((at for at, word in enumerate(found) if word != "dry_run=true"), None)
    if first is not None and found[first].replace("-", "_").isidentifier() and not found[first].startswith("-"):
        found[first] = f"study={found[first]}"
    return found


def stage_to_complete(words: list[str]) -> str | None:
    """Return the stage whose overrides Hydra is to complete; None if bash's question is answered here.

    ``words`` are those that bash calls tltool with. The stage itself is completed here, on standard output. Hydra knows
    of no stages, so that its name is taken out of what bash says of the line (``COMP_LINE`` and ``COMP_POINT``).
    """
    if not words[-1].startswith("query"):
        return "pretrain"
    line = os.environ.get("COMP_LINE", "")
    given = line.split()
    complete = given[1:] if line.endswith(" ") else given[1:-1]
    if not complete:
        start = "" if line.endswith(" ") or len(given) < 2 else given[-1]
        print(" ".join(name for name in STAGES if name.startswith(start)))
        return None
    if complete[0] not in STAGES:
        return None
    shorter = line.replace(f" {complete[0]}", "", 1)
    os.environ["COMP_POINT"] = str(len(shorter))
    os.environ["COMP_LINE"] = shorter
    return complete[0]
