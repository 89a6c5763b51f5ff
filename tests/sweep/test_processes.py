"""Which runs of a sweep go together, and which process does what; the command line is in test_cli.py."""

from pathlib import Path
from typing import Any

from tltool.sweep.processes import Job, dealt, studies


def a_job(seed: int = 0, mode: str = "scratch", **keys: Any) -> Job:
    regressor = {"random_state": seed, "C": keys.pop("C", 1.0)}
    config = {"seed": seed, "split": {"seed": seed}, "mode": {"name": mode, "regressor": regressor}, **keys}
    return Job(config, Path(f"{mode}-{seed}"), f"mode={mode} seed={seed}")


def test_seed_and_split_alone_make_no_other_study() -> None:
    jobs = [a_job(seed, mode) for seed in range(3) for mode in ("scratch", "freeze")] + [a_job(0, "freeze", C=2.0)]
    assert [[job.folder.name for job in study] for study in studies(jobs)] == [
        ["scratch-0", "scratch-1", "scratch-2"], ["freeze-0", "freeze-1", "freeze-2"], ["freeze-0"],
    ]  # fmt: skip


def test_a_large_study_is_cut() -> None:
    assert [len(study) for study in studies([a_job(seed) for seed in range(37)])] == [16, 16, 5]


def test_every_job_is_dealt_once_and_the_shares_are_even() -> None:
    given = studies([a_job(seed, mode) for mode in "abc" for seed in range(5)] + [a_job(0, "d"), a_job(0, "e")])
    shares = dealt(given, 2)
    names = [job.folder.name for share in shares for study in share for job in study]
    assert sorted(names) == sorted(job.folder.name for study in given for job in study)
    counts = [sum(map(len, share)) for share in shares]
    assert max(counts) - min(counts) <= 3
    assert len(dealt(studies([a_job()]), 4)) == 1
