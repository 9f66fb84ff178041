"""Records of submitted jobs and of the queue, as other programs read them."""

from pathlib import Path

import pytest
from snakemake_executor_plugin_submitit.inspection import (
    JobEnd,
    QueueError,
    last_lines,
    slurm_queue,
    submitted_jobs,
)
from snakemake_executor_plugin_submitit.ledger import Entry, new_batch


def install_squeue(folder: Path, script: str) -> None:
    (folder / "squeue").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "squeue").chmod(0o755)


def test_jobs_of_the_ledger_are_read_with_their_end() -> None:
    jobs = [Entry(f"key{n}", "digest", "train", {"n": str(n)}, [f"out/{n}"], []) for n in (1, 2)]
    batch = new_batch("slurm", jobs)
    jobs[0].id, jobs[0].log = "57_0", "logs/57_0_0_log.out"
    jobs[1].verdict = {"cause": "node lost", "text": "node lab1 failed"}
    batch.write()
    running, failed = submitted_jobs()
    assert (running.id, running.name, running.outputs) == ("57_0", "train n=1", ("out/1",))
    assert (running.job_log, running.submission) == ("logs/57_0_0_log.out", batch.name)
    assert running.may_be_in_slurm_queue and running.end is None
    assert failed.end == JobEnd("node lost", "node lab1 failed")
    assert not failed.may_be_in_slurm_queue


def test_local_jobs_are_not_in_the_slurm_queue() -> None:
    new_batch("local", [Entry("key", "digest", "train", {}, ["out"], [])]).write()
    (job,) = submitted_jobs()
    assert not job.may_be_in_slurm_queue


def test_the_queue_is_read_by_job_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_squeue(folder, "echo '57|COMPLETED|lab1|1:02|2:00|None|snakemake:b'")
    monkeypatch.setenv("PATH", str(folder))
    queue = slurm_queue()
    assert queue is not None
    job = queue["57"]
    assert (job.state, job.node, job.elapsed, job.limit) == ("COMPLETED", "lab1", "1:02", "2:00")
    assert not job.live


def test_a_machine_without_squeue_has_no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert slurm_queue() is None


def test_a_silent_controller_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_squeue(folder, "echo 'Unable to contact slurm controller' >&2; exit 1")
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(QueueError, match="Unable to contact slurm controller"):
        slurm_queue()


def test_the_last_lines_of_a_log_are_read(folder: Path) -> None:
    (folder / "job.log").write_text("one\ntwo\nthree\n")
    assert last_lines(folder / "job.log", 2) == ["two", "three"]
    assert last_lines(folder / "absent.log", 2) == []
