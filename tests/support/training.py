"""Tiny trainings that are interrupted, compared and run in two processes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.models import weights
from kd.training.loop import ResumableEpochLoop
from kd.training.train import train
from tests.support.tiny import (
    DISTILLED,
    STUDENT,
    TEACHER,
    edit,
    kd,
    make_project,
    unexpected,
    write_run,
)


def digest(run: Path) -> str:
    """Return the SHA-256 of a run's final weights."""
    state = weights.read_state(run / "weights.pth")
    sha = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()


def log(run: Path) -> list[dict[str, Any]]:
    """Return the records of ``log.jsonl`` without the throughput."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for record in records:
        del record["images_per_second"]
    return records


def assert_same(run: Path, other: Path) -> None:
    assert digest(run) == digest(other)
    assert log(run) == log(other)


def change(run: Path, edit_config: Callable[[dict[str, Any]], Any]) -> None:
    """Change a written configuration."""
    config = json.loads((run / "config.json").read_text())
    edit_config(config)
    (run / "config.json").write_text(json.dumps(config))


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("*"))


@contextmanager
def interrupted_before(step: int) -> Iterator[None]:
    """Interrupt training after ``step`` steps."""
    make_step = ResumableEpochLoop.run_iter

    def run_iter(loop: ResumableEpochLoop, *arguments: Any) -> None:
        if loop.iter == step:
            raise KeyboardInterrupt
        make_step(loop, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumableEpochLoop, "run_iter", run_iter)
        with pytest.raises(KeyboardInterrupt):
            yield


def logged(run: Path) -> int:
    """Return the newest step in the log, 0 without one."""
    return (run / "log.jsonl").read_text().count("\n") if (run / "log.jsonl").exists() else 0


def train_in_two_processes(run: Path, *options: str) -> str:
    """Train a run with two processes, which must print no error; return their stdout."""
    output, errors = kd("train", run, "--processes", "2", *options).communicate()
    assert unexpected(errors) == []
    return output


@contextmanager
def project_with_teacher(folder: Path) -> Iterator[None]:
    """Work in a tiny project in ``folder`` with a trained teacher, saving every second step."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(folder))
        edit("configs/schedules/tiny.yaml", checkpoint_steps=2)
        train(write_run(TEACHER))
        yield


def train_whole_runs() -> dict[str, Path]:
    """Return trained runs of the student alone and distilled, which nothing interrupted."""
    runs = {name: write_run(name) for name in (STUDENT, DISTILLED)}
    for run in runs.values():
        train(run)
    return runs
