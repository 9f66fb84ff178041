"""Rehearsals at the same time, repeated, interrupted, or on several machines."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.common.files import locked, read_json, write_json
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from kd.config.selection import StudyOptions
from kd.rehearsal import rehearse as module
from kd.rehearsal.configuration import RehearsalExtent
from kd.rehearsal.project import link_checkpoints
from kd.rehearsal.rehearse import LOCK, Processes, rehearse
from kd.resources.rehearsals import PROJECT, folder_of, rehearsal_key
from kd.workflow.options import WorkflowOptions
from tests.support.tiny import make_project

RECORD, FAILURE = "rehearsal.json", "failure.json"
KILLED_WITH_ITS_PARENT = """
import os, signal
from kd.rehearsal.rehearse import run_apart
def wait():
    print(os.getpid(), flush=True)
    signal.pause()
run_apart(wait)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return the composed student of study tiny, in a project without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    runs = plan("tiny", "tiny", Library(), StudyOptions()).runs.values()
    student = next(one for one in runs if one.method is None)
    student.write()
    return student


def attempt(run: Run) -> None:
    rehearse(run.directory, RehearsalExtent(), Processes(1, 0), lambda: None)


def fail(*_: Any) -> str:
    raise UserError("no memory")


@pytest.mark.parametrize("part", ["prepare", "run_apart"])
def test_a_failure_replaces_an_earlier_record(
    run: Run, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(rehearsal_key(run.config))
    write_json(folder / RECORD, {})
    monkeypatch.setattr(module, "prepare", lambda *_: "")
    monkeypatch.setattr(module, part, fail)
    with pytest.raises(UserError, match=r"^no memory$"):
        attempt(run)
    assert not (folder / RECORD).exists()
    assert read_json(folder / FAILURE)["reason"] == "no memory"


def test_an_interrupted_rehearsal_counts_as_not_made(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    folder = folder_of(rehearsal_key(run.config))
    for name in (RECORD, FAILURE):
        write_json(folder / name, {})
    monkeypatch.setattr(module, "prepare", lambda *_: "")
    monkeypatch.setattr(module, "run_apart", interrupt)
    with pytest.raises(KeyboardInterrupt):
        attempt(run)
    assert not (folder / RECORD).exists()
    assert not (folder / FAILURE).exists()


def test_the_time_of_the_first_step_leaves_out_the_preparation_of_data(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, starts = [100.0], []

    def prepare(*_: Any) -> str:
        clock[0] += 15
        return ""

    def record(*arguments: Any) -> None:
        starts.append(arguments[3])
        raise UserError("no record")

    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: clock[0]))
    monkeypatch.setattr(module, "prepare", prepare)
    monkeypatch.setattr(module, "run_apart", lambda _: None)
    monkeypatch.setattr(module, "_record", record)
    with pytest.raises(UserError, match="no record"):
        attempt(run)
    assert starts == [115.0]


def test_a_second_process_is_refused(run: Run) -> None:
    folder = folder_of(rehearsal_key(run.config))
    write_json(folder / RECORD, {})
    with locked(folder / LOCK), pytest.raises(UserError, match="another process makes"):
        attempt(run)
    assert (folder / RECORD).exists()


def test_a_rehearsal_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", KILLED_WITH_ITS_PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        try:
            assert select.select([child], [], [], 30)[0]
        finally:
            os.close(child)


def test_memory_is_that_of_processes_that_srun_starts(tmp_path: Path) -> None:
    import kd.models.mmdet_setup  # noqa: F401
    from kd.rehearsal.steps import _memory

    lines = [json.dumps({"process_mb": 2**30 + number}) for number in (1, 3, 2)]
    (tmp_path / "steps.jsonl").write_text("\n".join(lines))
    write_json(tmp_path / "provenance.json", {"peak_memory_mb": None})
    for processes in (1, 4):
        assert _memory(tmp_path, processes)["process_mb"] == 2**30 + 3


def test_one_step_is_refused() -> None:
    with pytest.raises(UserError, match="at least 2"):
        RehearsalExtent(steps=1)
    with pytest.raises(UserError, match="rehearsal_steps"):
        WorkflowOptions.parse({"study": "x", "scale": "y", "rehearsal_steps": 1}, "here")


def test_downloaded_detectors_are_those_of_the_project(run: Run) -> None:
    link_checkpoints()
    assert not (PROJECT / "checkpoints").exists()
    Path("checkpoints").mkdir()
    Path("checkpoints/a.pth").touch()
    for _ in range(2):
        link_checkpoints()
        assert (PROJECT / "checkpoints" / "a.pth").exists()
