"""Check what changed within a minute: ruff, mypy, import-linter, and the fast tests of the files that changed.

What changed is compared with the branch ``main``, or with the last commit where that is ``main``. A module has the
tests that mirror its path and those that import it. Tests marked ``slow`` are left to ``make test``, and so is what has
not begun when the time is up.
"""

import argparse
import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports",))
_TIME = 45.0  # seconds after which no test begins
_PAGES = ("README.md", "docs/", "CONTRIBUTING.md", "Makefile")


def changed(root: Path, base: str) -> list[str]:
    """Return the files of the repository ``root`` that differ from where its branch left ``base``, new ones too."""

    def git(*words: str) -> list[str]:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
        return done.stdout.splitlines() if done.returncode == 0 else []

    (since,) = git("merge-base", base, "HEAD") or ["HEAD"]
    differing = git("diff", "--name-only", "--no-renames", "--diff-filter=d", since)
    return sorted({*differing, *git("ls-files", "--others", "--exclude-standard")})


def nearest_tests(files: Iterable[str], root: Path = ROOT) -> list[str]:
    """Return the test files of ``files``, the nearest first: themselves, those of the same path, those that import."""
    every = sorted(path.relative_to(root).as_posix() for path in (root / "tests").rglob("test_*.py"))
    uses = {test: set(imported((root / test).read_text(encoding="utf-8"))) for test in every}
    near: list[str] = []
    far: list[str] = []
    for file in files:
        path = Path(file)
        if file in every:
            near.insert(0, file)
        elif path.suffix == ".py":
            folder = Path("tests", *path.parts[1 if path.parts[0] == "tltool" else 0 : -1])
            near += [test for test in every if Path(test).parent == folder and _mirrors(Path(test).stem, path.stem)]
            name = path.stem if path.parts[0] in ("tests", "scripts") else ".".join(path.with_suffix("").parts)
            far += [test for test in every if name in uses[test]]
        elif path.parts[0] == "configs":
            far.append("tests/test_configs.py")
        if file.startswith(_PAGES):
            far.append("tests/test_readme.py")
    return list(dict.fromkeys(test for test in (*near, *far) if test in every))


def imported(text: str) -> Iterator[str]:
    """Yield the names of all modules, and what may be one, that the Python ``text`` imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _mirrors(test: str, module: str) -> bool:
    return test == f"test_{module}" or test.startswith(f"test_{module}_")


def _failed(name: str, process: "subprocess.Popen[str]") -> bool:
    said, _ = process.communicate()
    print(f"{name}: {'passed' if process.returncode == 0 else said.rstrip()}", flush=True)
    return process.returncode != 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks and the tests side by side; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="main", help="the branch to compare with (main)")
    base: str = parser.parse_args(argv).base
    begun = time.time()
    pipe = subprocess.PIPE
    checks = {
        " ".join(words): subprocess.Popen(
            [str(BIN / words[0]), *words[1:]], cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )
        for words in CHECKS
    }
    tests = nearest_tests(changed(ROOT, base))
    failed = False
    if tests:
        print(f"Tests of what differs from {base}: {', '.join(tests)}", flush=True)
        # Kernels and data sets that were prepared for one run serve the next.
        env = os.environ | {
            "TLTOOL_TESTS_UNTIL": str(begun + _TIME),
            "TLTOOL_TEST_CACHE": str(ROOT / "build" / "quick"),
        }
        words = ["-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "-m", "not slow", *tests]
        failed = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, check=False).returncode not in (0, 5)
    else:
        print(f"No test belongs to what differs from {base}.", flush=True)
    failed = any([failed, *(_failed(name, process) for name, process in checks.items())])
    print(f"{'Failed' if failed else 'Passed'} after {time.time() - begun:.0f} s.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
