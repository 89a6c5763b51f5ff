"""Mutation testing: how many small changes to the code the tests notice.

    python scripts/mutants.py [MODULE ...] [--sample N] [--seed S] [--jobs J] [--fresh]

mutmut writes the changes (mutants) and runs the tests; tests/mutants.toml says which modules are changed and which
tests belong to each. The results stay in build/mutants and are used again: a later call tests only what has no result
yet, mutants of functions that changed, and, where the tests changed, those that had survived. Prints what survived, the
score of each module and the score in all: mutants killed among those that can be killed. Left out are those that
tests/mutants.toml names with a reason and those that change only the wording of a sentence.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "mutants"
LINKS = ("tltool", "tests", "configs", "scripts", "docs", "README.md", "pyproject.toml")
GOAL = 0.9
_SHARED_BY_TESTS = ("tests/conftest.py", "tests/support.py", "tests/commands.py")
_STRING = re.compile(r"""(["'])((?:(?!\1).)*)\1""")
_KILLED = ("killed", "timeout", "segfault")


class Equivalent(NamedTuple):
    """A mutant that no test can kill: the line ``before`` of ``function`` turned into ``after``."""

    function: str
    before: str
    after: str


class Plan(NamedTuple):
    """The tests of each module, and the mutants that cannot be killed with the reason for each."""

    tests: dict[str, list[str]]
    equivalent: dict[Equivalent, str]
    everywhere: list[re.Pattern[str]]


class Result(NamedTuple):
    """What became of one module's mutants: their status by name, and the change that each survivor made."""

    status: dict[str, str]
    changes: dict[str, Equivalent]


def plan(file: Path) -> Plan:
    """Return what ``file`` (tests/mutants.toml) says."""
    said = tomllib.loads(file.read_text(encoding="utf-8"))
    named = {Equivalent(e["function"], e["from"], e["to"]): e["reason"] for e in said.get("equivalent", [])}
    everywhere = [re.compile(e["pattern"]) for e in said.get("everywhere", [])]
    return Plan(said["tests"], named, everywhere)


def hashes(module: str) -> dict[str, str]:
    """Return the names of all mutants of ``module``, each with the hash of the function that it changes."""
    kept = WORK / "names" / f"{_dotted(module)}.json"
    digest = hashlib.sha256((ROOT / module).read_bytes()).hexdigest()
    if kept.is_file():
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["sha256"] == digest:
            return dict(known["mutants"])
    found = _hashes(module)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"sha256": digest, "mutants": found}), encoding="utf-8")
    return found


def _hashes(module: str) -> dict[str, str]:
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    with chdir(ROOT):  # mutmut reads its configuration where it runs
        made = mutate_file_contents(module, Path(module).read_text(encoding="utf-8"))
        of_function = made.hash_by_function_name
        return {get_mutant_name(Path(module), n): of_function[n.rpartition("__mutmut_")[0]] for n in made.mutant_names}


def sample(every: dict[str, list[str]], size: int | None, seed: int) -> dict[str, list[str]]:
    """Return ``size`` of the mutants of all modules (None: all of them), by module.

    ``seed`` and a mutant's name decide its place in the draw, so that a larger sample holds the smaller ones.
    """

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{seed}:{name}".encode()).digest()

    drawn = set(sorted((name for of in every.values() for name in of), key=place)[:size])
    return {module: [name for name in of if name in drawn] for module, of in every.items()}


def _dotted(module: str) -> str:
    return module.removesuffix(".py").replace("/", ".")


def folder_of(module: str, fresh: bool) -> Path:
    """Make the folder where mutmut works on ``module``: links to the sources, and its results."""
    folder = WORK / _dotted(module)
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in LINKS:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(ROOT / name)
    return folder


def forget_survivors(folder: Path, module: str, tests: list[str]) -> None:
    """Drop the results in ``folder`` that other tests may change: where the tests changed, those that are no kill."""
    meta, known = folder / "mutants" / f"{module}.meta", folder / "tests.sha256"
    texts = [(ROOT / file).read_bytes() for file in (*tests, *_SHARED_BY_TESTS)]
    digest = hashlib.sha256(b"".join(texts)).hexdigest()
    if known.is_file() and known.read_text() != digest and meta.is_file():
        data = json.loads(meta.read_text(encoding="utf-8"))
        codes = data["exit_code_by_key"]
        data["exit_code_by_key"] = {n: c if _status(c) in _KILLED else None for n, c in codes.items()}
        meta.write_text(json.dumps(data), encoding="utf-8")
    known.write_text(digest)


def statuses(folder: Path, module: str, now: dict[str, str]) -> dict[str, str]:
    """Return the status of every mutant of ``module`` that was tested in ``folder`` and whose function stands still."""
    meta = folder / "mutants" / f"{module}.meta"
    if not meta.is_file():
        return {}
    data = json.loads(meta.read_text(encoding="utf-8"))
    codes, then = data["exit_code_by_key"], data["hash_by_function_name"]
    same = [n for n in now if then.get(n.rpartition(".")[2].rpartition("__mutmut_")[0]) == now[n]]
    return {name: _status(codes[name]) for name in same if codes.get(name) is not None}


def _status(code: int | None) -> str:
    from mutmut.stats import status_by_exit_code

    return status_by_exit_code[code]


def test(folder: Path, module: str, tests: list[str], todo: list[str], jobs: int) -> None:
    """Let mutmut test the mutants ``todo`` of ``module`` by ``tests`` alone."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    own = f"[tool.mutmut]\nonly_mutate = {json.dumps([module])}\n"
    own += f"pytest_add_cli_args_test_selection = {json.dumps(tests)}\nalso_copy = {json.dumps(LINKS[2:])}\n"
    (folder / "pyproject.toml").unlink(missing_ok=True)
    (folder / "pyproject.toml").write_text(text.replace("[tool.mutmut]\n", own), encoding="utf-8")
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs), *todo]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        sys.exit(f"{module}: mutmut ended with code {done.returncode}.\n{done.stdout[-2000:]}")


def change(folder: Path, module: str, name: str) -> Equivalent:
    """Return what the mutant ``name`` changes."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.utils.format_utils import orig_function_and_class_names_from_key

    with chdir(folder):
        lines = get_diff_for_mutant(name, path=module).splitlines()[2:]
    before, after = ("\n".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    function, owner = orig_function_and_class_names_from_key(name)
    return Equivalent(".".join(filter(None, (_dotted(module), owner, function.rpartition(".")[2]))), before, after)


def cannot_be_killed(of: Equivalent, said: Plan) -> bool:
    """Return whether the plan names the change, by itself or by a pattern, or it only changes a sentence's wording.

    Tests hold what a message names, not each of its words.
    """

    def plain(text: str) -> str:
        for pattern in said.everywhere:
            text = pattern.sub("", text)
        return _STRING.sub(lambda found: "" if " " in found[2] else found[0], text)

    return of in said.equivalent or plain(of.before) == plain(of.after)


def verdicts(result: Result, said: Plan, wanted: list[str]) -> dict[str, str]:
    """Return for each mutant of ``wanted`` whether it was killed, survived, or cannot be killed."""
    found = {}
    for name in wanted:
        if result.status.get(name) in _KILLED:
            found[name] = "killed"
        else:
            found[name] = "equivalent" if cannot_be_killed(result.changes[name], said) else "survived"
    return found


def table(counts: dict[str, Counter[str]]) -> str:
    """Return the score of each module and the score in all, as a Markdown table."""
    rows = [*counts.items(), ("in all", sum(counts.values(), Counter()))]
    text = ["| module | mutants | killed | survived | left out | score |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for module, of in rows:
        score = f"{of['killed'] / max(of['killed'] + of['survived'], 1):.1%}"
        text.append(f"| {module} | {of.total()} | {of['killed']} | {of['survived']} | {of['equivalent']} | {score} |")
    return "\n".join(text)


def main(words: Sequence[str] | None = None) -> int:
    """Test the mutants and print the scores; return 1 if fewer than 90 % of those that can be killed are."""
    said = plan(ROOT / "tests" / "mutants.toml")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="for example splits; none: all of them")
    parser.add_argument("--sample", type=int, help="test only what a draw of so many mutants of all modules holds")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--fresh", action="store_true", help="forget the results of earlier calls")
    given = parser.parse_args(words)
    modules = [m for m in said.tests if not given.modules or Path(m).stem in given.modules]
    if not modules:
        parser.error(f"none of these is in tests/mutants.toml: {', '.join(given.modules)}")
    now = {module: hashes(module) for module in (said.tests if given.sample else modules)}
    wanted = sample({module: list(of) for module, of in now.items()}, given.sample, given.seed)
    counts = {}
    for module in modules:
        folder = folder_of(module, given.fresh)
        forget_survivors(folder, module, said.tests[module])
        # mutmut forgets all results of a module where its settings changed, so what was done may be to do again.
        for _ in range(2):
            done = statuses(folder, module, now[module])
            todo = [name for name in wanted[module] if name not in done]
            if todo:
                print(f"{module}: {len(todo)} of {len(wanted[module])} mutants to test", file=sys.stderr, flush=True)
                test(folder, module, said.tests[module], todo, given.jobs)
        status = statuses(folder, module, now[module])
        alive = [name for name in wanted[module] if status.get(name) not in _KILLED]
        result = Result(status, {name: change(folder, module, name) for name in alive})
        found = verdicts(result, said, wanted[module])
        for name in alive:
            if found[name] == "survived":
                of = result.changes[name]
                print(f"{of.function} ({result.status.get(name, 'not tested')}, {name.rpartition('__mutmut_')[2]})")
                print(f"  - {of.before}\n  + {of.after}".replace("\n", "\n    ").replace("\n      +", "\n  +"))
        counts[module] = Counter(found.values())
    print(table(counts))
    whole = sum(counts.values(), Counter[str]())
    return int(whole["killed"] < GOAL * (whole["killed"] + whole["survived"]))


if __name__ == "__main__":
    sys.exit(main())
