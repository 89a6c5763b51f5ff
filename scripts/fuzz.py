"""Change valid files at random and read them: no reader may raise anything but an error of tltool.

Each reader of ``tests/faults/mutated_files.py`` works in a process of its own, with 2 s of processor time for an input
and 1 GB of memory beyond what it has at the beginning. An input that is not read as it should be is kept in
``tests/faults/corpus``, which ``make test`` reads again. Run by ``make fuzz COUNT=1000``.
"""

import argparse
import base64
import bz2
import gzip
import hashlib
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import FrameType

from faults import mutated_files  # type: ignore[import-not-found]  # of tests, see the Makefile

from tltool.errors import TltoolError

CORPUS = Path(__file__).parents[1] / "tests" / "faults" / "corpus"
SECONDS, MEMORY = 2.0, 1 << 30
WORDS = (
    b"", b"0", b"-1", b"1e999", b"nan", b"NaN", b"Infinity", b"null", b"true", b"[]", b"{}", b'""', b"\x00",
    b"\xff\xfe", b"9" * 400, b"[" * 3000, b'{"a":' * 2000, b"loop_\n", b"data_\n", b"../../x", b"=1+1", b",", b";",
    b'"', b"'", b"\n", b"\r\n", b"\t", b"*a", b"&a", b"!!python/name:os.system", b"_target_: os.system", b"1e-320",
    b"inf", b"?", b"D", b"X0",
)  # fmt: skip


class TooSlow(BaseException):
    """An input took too long."""


def changed(content: bytes, draw: random.Random) -> bytes:
    """Return ``content`` with a few random changes; of a packed file, of what is inside as often as of itself."""
    if draw.random() < 0.6:
        for head, module in ((b"BZh", bz2), (b"\x1f\x8b", gzip)):
            if content.startswith(head):
                return bytes(module.compress(changed(module.decompress(content), draw)))
    found = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(found) + 1)
        length = draw.choice((1, 1, 2, 4, 8, 40, len(found)))
        kind = draw.randrange(7)
        if kind == 0 and found:
            found[at % len(found)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            found[at : at + length] = draw.randbytes(min(length, 64))
        elif kind == 2:
            del found[at : at + length]
        elif kind == 3:
            found[at:at] = found[at : at + length]
        elif kind == 4:
            del found[at:]
        elif kind == 5:
            word = draw.choice(WORDS)
            found[at : at + draw.choice((0, len(word), length))] = word
        else:
            pieces = bytes(found).split(draw.choice((b"\n", b",", b" ", b":")))
            draw.shuffle(pieces)
            found = bytearray(draw.choice((b"\n", b",", b" ", b":")).join(pieces))
    return bytes(found)


def told(name: str, folder: Path) -> str:
    """Read what is in ``folder``; return what went wrong, empty if nothing did."""
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mutated_files.READERS[name].read(folder)
    except TltoolError:
        pass
    except TooSlow:
        return f"it took longer than {SECONDS:g} s"
    except MemoryError:
        return "it took more than 1 GB"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    took = time.process_time() - began
    return f"it took {took:.1f} s" if took > SECONDS else ""


def _late(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def one_reader(name: str, count: int, seed: int, place: Path) -> None:
    """Read ``count`` changed files; print a JSON line for each finding, and one with the count at the end."""
    signal.signal(signal.SIGPROF, _late)
    files = mutated_files.fresh(name, place / "files")
    told(name, place / "files")  # what is imported on the way is no memory of an input
    whole = {file: file.read_bytes() for file in mutated_files.fresh(name, place / "files")}
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    draw = random.Random(f"{name} {seed}")  # noqa: S311
    kinds: set[str] = set()
    for n in range(count):
        file = draw.choice(files)
        content = changed(whole[file], draw)
        for other, before in whole.items():
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_bytes(content if other == file else before)
        (place / "last.json").write_text(json.dumps(_case(name, file, place, content)), encoding="utf-8")
        if why := told(name, place / "files"):
            if why[:60] not in kinds:
                print(json.dumps(_case(name, file, place, content) | {"why": why, "n": n}), flush=True)
            kinds.add(why[:60])
    print(json.dumps({"reader": name, "read": count}), flush=True)


def _case(name: str, file: Path, place: Path, content: bytes) -> dict[str, str]:
    where = file.relative_to(place / "files").as_posix()
    return {"reader": name, "file": where, "content": base64.b64encode(content).decode()}


def _kept(case: dict[str, str]) -> Path:
    digest = hashlib.sha256(case["content"].encode()).hexdigest()[:10]
    CORPUS.mkdir(exist_ok=True)
    path = CORPUS / f"{case['reader']}-{digest}.json"
    kept = {key: case[key] for key in ("reader", "file", "content", "why") if key in case}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Read changed files of all readers, or of those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", help="names of readers; all without")
    parser.add_argument("--count", type=int, default=1000, help="inputs of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.in_process:
        with tempfile.TemporaryDirectory() as place:
            one_reader(given.readers[0], given.count, given.seed, Path(place))
        return
    total = findings = 0
    for name in given.readers or mutated_files.READERS:
        began, read = time.perf_counter(), 0
        words = [sys.executable, __file__, name, "--in-process", "--count", str(given.count), "--seed", str(given.seed)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        for case in found:
            read = case.get("read", read)
            if "why" in case:
                findings += 1
                print(f"  {name}: {case['why']}  ({_kept(case).name})", flush=True)
        if done.returncode:
            findings += 1
            print(f"  {name}: the process ended with {done.returncode}", flush=True)
        total += read
        print(f"{name}: {read:,} inputs in {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{total:,} inputs, {findings} kinds of findings.")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
