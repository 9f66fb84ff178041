"""One process at a time trains a run, with a heartbeat."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kd.training import run_lock
from kd.training.launch import FAILURE
from kd.training.run_lock import FILE, TakenError, held, sign_of_life
from tests.support.paths import REPOSITORY
from tests.support.tiny import STUDENT, kd, make_project, write_run

HOLD = """
import sys
from pathlib import Path
from kd.training.run_lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """Process that holds a run's lock until its stdin closes or it is killed."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(directory)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self.process.stdout and self.process.stdout.readline() == "held\n"

    def __enter__(self) -> "Holder":
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.communicate()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.05)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


def record(directory: Path, **holder: Any) -> None:
    """Leave what a process of another machine left that was killed."""
    (directory / FILE).write_text(json.dumps(holder), encoding="utf-8")


def test_a_second_process_is_refused_and_told_who_trains(tmp_path: Path) -> None:
    with Holder(tmp_path) as holder:
        with pytest.raises(TakenError) as refused, held(tmp_path):
            pass
        text = str(refused.value)
        assert f"another process trains this run, pid {holder.process.pid} on " in text
        assert os.uname().nodename in text and "\n" not in text
    with held(tmp_path):
        assert sign_of_life(tmp_path) < 60
    assert sign_of_life(tmp_path) == float("inf")


def test_a_killed_process_leaves_the_run_to_the_next_one(tmp_path: Path) -> None:
    with Holder(tmp_path) as holder:
        holder.process.send_signal(signal.SIGKILL)
        holder.process.wait()
        with held(tmp_path):
            pass


def test_a_process_forked_from_the_holder_does_not_keep_the_run(tmp_path: Path) -> None:
    """A loader's process may outlive a training that was killed by some seconds."""
    read, write = os.pipe()
    forked, begun = os.pipe()
    with held(tmp_path):
        child = os.fork()
        if not child:
            os.close(write)
            os.write(begun, b"!")
            os.read(read, 1)
            os._exit(0)
    os.close(read)
    os.read(forked, 1)
    try:
        with held(tmp_path):
            pass
    finally:
        os.close(write)
        os.waitpid(child, 0)


def test_a_silent_training_shows_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "MOST_MISSED_BEATS", 10_000)
    with held(tmp_path), open(tmp_path / FILE, encoding="utf-8") as file:
        os.utime(file.name, (0, 0))
        assert sign_of_life(tmp_path) > 1000
        assert run_lock._touched_meanwhile(file)
        assert sign_of_life(tmp_path) < 60


@pytest.mark.parametrize("locks", [True, False])
def test_where_locks_do_not_reach_another_machine_signs_of_life_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError("No locks available")

    record(tmp_path, host="another", pid=1, job="7")
    touched = [False, True]
    monkeypatch.setattr(run_lock, "_touched_meanwhile", lambda _: touched.pop(0))
    if not locks:
        monkeypatch.setattr(run_lock.fcntl, "flock", no_locks)
    with held(tmp_path):  # no sign of life: the other machine's process is gone
        pass
    record(tmp_path, host="another", pid=1, job="7")
    with pytest.raises(TakenError, match=r"pid 1 on another \(job 7\)"), held(tmp_path):
        pass


def test_a_requeued_job_does_not_wait_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, host="another", pid=1, job="7")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(run_lock, "_touched_meanwhile", lambda _: pytest.fail("it waited"))
    with held(tmp_path):
        pass


def test_half_a_record_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"host": "anot', encoding="utf-8")
    with held(tmp_path):
        pass


@pytest.mark.parametrize("arguments", [[], ["--processes", "2"]])
def test_a_second_training_ends_in_one_line_and_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    run = write_run(STUDENT)
    (run / FAILURE).write_text("{}", encoding="utf-8")
    with Holder(run) as holder:
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        _, errors = (second := kd("train", run, *arguments)).communicate()
        assert second.returncode == 2
        assert errors.count("\n") == 1
        assert f"error: {run}: another process trains this run, pid {holder.process.pid}" in errors
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
