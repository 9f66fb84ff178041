"""A training that stops on request saves a checkpoint and resumes; a full disk loses nothing."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import kd.runtime
from kd.cli.main import main
from kd.models import weights
from kd.training.loop import ResumableEpochLoop
from tests.support.tiny import (
    DISTILLED,
    STUDENT,
    copy_run,
    kd,
    unexpected,
)
from tests.support.training import (
    assert_same,
    checkpoints,
    digest,
    project_with_teacher,
    train_whole_runs,
)

STEPS, STOPPED = 12, 75
NO_SMALL_DISK = "this user cannot mount a small disk; run `make test` as root, who may mount"


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained teacher, saving every second step."""
    with project_with_teacher(tmp_path_factory.mktemp("project")):
        yield


@pytest.fixture(scope="module")
def whole() -> dict[str, Path]:
    """Return runs that nothing stopped."""
    return train_whole_runs()


@pytest.fixture
def stop_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file whose appearance asks to stop."""
    path = tmp_path / "stop"
    monkeypatch.setenv("SNAKEMAKE_STOP_FILE", str(path))
    return path


@contextmanager
def stop_requested_in_step(step: int, stop_file: Path) -> Iterator[None]:
    """Request a stop during a step."""
    make_step = ResumableEpochLoop.run_iter

    def run_iter(loop: ResumableEpochLoop, *arguments: Any) -> None:
        if loop.iter + 1 == step:
            stop_file.touch()
        make_step(loop, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumableEpochLoop, "run_iter", run_iter)
        yield


@pytest.mark.parametrize("name", [STUDENT, DISTILLED], ids=["alone", "rm+pfi"])
@pytest.mark.parametrize("step", [1, 6, 9])
def test_a_stopped_run_goes_on_to_the_same_weights(
    whole: dict[str, Path],
    name: str,
    step: int,
    stop_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = copy_run(whole[name], f"stopped-in-{step}")
    with stop_requested_in_step(step, stop_file):
        assert main(["train", str(run)]) == STOPPED
    output, errors = capsys.readouterr()
    assert output.endswith(
        f"\nstopped at step {step} of {STEPS} on request; run the same command to resume\n"
    )
    assert unexpected(errors) == []
    assert checkpoints(run)[-1] == f"step{step:08d}.pth"
    assert not (run / "failure.json").exists() and not (run / "weights.pth").exists()
    stop_file.unlink()
    assert main(["train", str(run)]) == 0
    assert f"resuming at step {step} of {STEPS}" in capsys.readouterr().out
    assert_same(run, whole[name])


def test_stopped_after_every_step_it_ends_in_the_same_weights(
    whole: dict[str, Path], stop_file: Path
) -> None:
    run = copy_run(whole[STUDENT], "stopped-after-every-step")
    stop_file.touch()
    for _ in range(STEPS - 1):
        assert main(["train", str(run)]) == STOPPED
    assert main(["train", str(run)]) == 0
    assert_same(run, whole[STUDENT])


def test_a_request_in_the_last_step_is_none(whole: dict[str, Path], stop_file: Path) -> None:
    run = copy_run(whole[STUDENT], "stopped-in-the-last-step")
    with stop_requested_in_step(STEPS, stop_file):
        assert main(["train", str(run)]) == 0
    assert_same(run, whole[STUDENT])


def test_a_step_that_is_saved_anyway_is_saved_once(
    whole: dict[str, Path], stop_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, save = [], weights.save

    def counting_save(path: Path, content: dict[str, Any]) -> None:
        written.append(path.name)
        save(path, content)

    monkeypatch.setattr(weights, "save", counting_save)
    with stop_requested_in_step(4, stop_file):
        assert main(["train", str(copy_run(whole[STUDENT], "saved-once"))]) == STOPPED
    assert written == ["step00000002.pth", "step00000004.pth"]


def test_two_processes_stop_at_one_step_and_go_on(whole: dict[str, Path], stop_file: Path) -> None:
    stopped, unstopped = (copy_run(whole[DISTILLED], f"two-{name}") for name in ("cut", "whole"))
    share = ["--processes", "2"]
    stop_file.touch()
    stopping = kd("train", stopped, *share)
    output, errors = stopping.communicate()
    assert (stopping.returncode, errors) == (STOPPED, "")
    assert output.count("stopped at step") == 1
    assert f"stopped at step 1 of {STEPS} on request" in output
    assert not (stopped / "failure.json").exists()
    stop_file.unlink()
    processes = [kd("train", run, *share) for run in (stopped, unstopped)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0].count(f"resuming at step 1 of {STEPS}") == 1
    assert_same(stopped, unstopped)


def test_the_log_tells_how_many_steps_there_are(whole: dict[str, Path]) -> None:
    records = [json.loads(line) for line in (whole[STUDENT] / "log.jsonl").read_text().splitlines()]
    assert {record["steps"] for record in records} == {STEPS}


# A full disk


@contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a small disk at a folder."""
    folder.mkdir()
    options = ["-o", f"size={size}"]
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(NO_SMALL_DISK)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason=NO_SMALL_DISK)
def test_a_full_disk_is_one_line_and_earlier_checkpoints_stay(
    whole: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run(whole[STUDENT], "full")
    size = (whole[STUDENT] / "checkpoints" / f"step{STEPS:08d}.pth").stat().st_size
    with disk(run / "checkpoints", size * 3 // 2):
        assert main(["train", str(run)]) == 2
        path = (run / "checkpoints" / "step00000004.pth").resolve().relative_to(Path.cwd())
        assert capsys.readouterr().err == f"error: {path}: No space left on device\n"
        assert checkpoints(run) == ["step00000002.pth"]
        assert weights.read(run / "checkpoints" / "step00000002.pth")["step"] == 2
        larger = f"remount,size={size * 5}"
        subprocess.run(["mount", "-o", larger, str(run / "checkpoints")], check=True)
        assert main(["train", str(run)]) == 0
        assert f"resuming at step 2 of {STEPS}" in capsys.readouterr().out
        assert digest(run) == digest(whole[STUDENT])
