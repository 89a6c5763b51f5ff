"""What make mutants counts: a plan that holds, samples that come again, and what is no fault of the tests."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from support import ROOT

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import mutants
from mutants import Equivalent, Result

PLAN = mutants.plan(ROOT / "tests" / "mutants.toml")


def test_the_plan_names_files_that_are_there() -> None:
    files = [*PLAN.tests, *(test for tests in PLAN.tests.values() for test in tests)]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    stems = [Path(module).stem for module in PLAN.tests]
    assert len(stems) == len(set(stems)), "make mutants MODULES= takes the last part of a name"


@pytest.mark.parametrize("of", PLAN.equivalent, ids=lambda of: of.function)
def test_a_mutant_that_cannot_be_killed_is_one_of_today(of: Equivalent) -> None:
    (module,) = [name for name in PLAN.tests if of.function.startswith(name[:-3].replace("/", ".") + ".")]
    lines = [line.strip() for line in (ROOT / module).read_text(encoding="utf-8").splitlines()]
    assert all(line in lines for line in of.before.splitlines()), f"{module} has no line {of.before!r} any more"
    assert of.before != of.after
    assert len(PLAN.equivalent[of].split()) > 3, "say why no test can see it"


def test_a_sample_comes_again_and_a_larger_one_holds_it() -> None:
    every = {"a.py": [f"a{k}" for k in range(30)], "b.py": [f"b{k}" for k in range(70)]}
    drawn, more = (mutants.sample(every, size, seed=3) for size in (20, 50))
    assert drawn == mutants.sample(every, 20, seed=3) != mutants.sample(every, 20, seed=4)
    assert sum(map(len, drawn.values())) == 20
    assert all(set(drawn[module]) <= set(more[module]) <= set(every[module]) for module in every)
    assert mutants.sample(every, None, seed=3) == mutants.sample(every, 999, seed=3) == every


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ('raise DataError("no such file")', 'raise DataError("XXno such fileXX")', True),
        ('raise DataError("no such file")', 'raise DataError("NO SUCH FILE")', True),
        ('f"{name}: it is " "not there"', 'f"{name}: it is " "XXnot thereXX"', True),
        ('raise DataError("no such file")', "raise DataError(None)", False),
        ('row["id"]', 'row["XXidXX"]', False),
        ('if n > 1: say("a few words")', 'if n >= 1: say("a few words")', False),
        ('file.open(encoding="utf-8", newline="")', 'file.open(encoding="UTF-8", newline="")', True),
        ('file.open(encoding="utf-8", newline="")', 'file.open(newline="")', True),
        ('file.open(encoding="utf-8", newline="")', 'file.read(encoding="utf-8", newline="")', False),
        ('x = float("nan") if n else 0.0', 'x = float("NAN") if n else 0.0', True),
        ('x = float("nan") if n else 0.0', 'x = float("nan") if n else 1.0', False),
    ],
)
def test_wording_and_the_names_of_encodings_are_not_held(before: str, after: str, same: bool) -> None:
    assert mutants.cannot_be_killed(Equivalent("f", before, after), PLAN) is same


def test_scores_leave_out_what_cannot_be_killed() -> None:
    status = {"k": "killed", "t": "timeout", "s": "survived", "n": "no tests", "e": "survived", "w": "survived"}
    changes = {name: Equivalent("f", "a", name) for name in "sne"} | {"w": Equivalent("f", '"a b"', '"A B"')}
    plan = PLAN._replace(equivalent={changes["e"]: "they say the same"})
    found = mutants.verdicts(Result(status, changes), plan, list(status))
    assert Counter(found.values()) == {"killed": 2, "survived": 2, "equivalent": 2}
    text = mutants.table({"one.py": Counter(found.values()), "two.py": Counter(killed=6)})
    assert "| one.py | 6 | 2 | 2 | 2 | 50.0% |" in text
    assert "| in all | 12 | 8 | 2 | 2 | 80.0% |" in text


def test_every_module_has_mutants_that_its_functions_hold() -> None:
    found = mutants.hashes("tltool/metrics.py")
    assert len(found) > 50
    assert all(name.startswith("tltool.metrics.x") and len(of) == 12 for name, of in found.items())
