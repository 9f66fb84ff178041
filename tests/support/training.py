"""Tiny trainings that are interrupted, compared and run in two processes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kd.models import weights
from kd.training.loop import ResumableEpochLoop
from tests.support.tiny import kd, unexpected


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


def change(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change a written configuration."""
    config = json.loads((run / "config.json").read_text())
    edit(config)
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
