"""The stages of ``tltool``, the text of ``tltool --help``, and what bash is offered after ``tltool``."""

import os

STAGES = {
    "prepare": ("prepare", "read a data set and build its graphs"),
    "pretrain": ("pretrain", "learn a backbone on a large, cheap data set"),
    "transfer": ("transfer", "take it to a small data set of another quantity"),
    "eval": ("evaluate", "errors of a trained model"),
    "predict": ("predict", "a table of predictions for structure files"),
    "report": ("report", "one page over all runs"),
}
"""Stage -> its module in ``tltool.stages``, and what it does."""

_USAGE = """usage: tltool STAGE [overrides]

{stages}

  tltool pretrain                                  the bundled demo data
  tltool transfer target=bulk_modulus mode=freeze
  tltool transfer -m mode=scratch,finetune,freeze,features seed=0,1,2
  tltool predict input=my_structures/

tltool STAGE --help      what can be set          tltool STAGE --help fit   a group of keys, or one key
tltool STAGE --cfg job   the config of a run
tltool show data elastic what a data set, target, encoder, mode or quantity is; without a name a list
tltool doctor            what this machine offers: GPU, compiler, folders; what to do where something is missing
tltool --version         the version              eval "$(tltool -sc install=bash)"   completion in bash
"""


def usage() -> str:
    """Return the help text."""
    return _USAGE.format(stages="\n".join(f"  {name:<10}{what}" for name, (_, what) in STAGES.items()))


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
