"""Trainings in a group of processes: NCCL on a GPU, Gloo on the CPU where there is none."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.paths import REPOSITORY
from tests.support.tiny import DISTILLED, TEACHER, copy_run, make_project, python, write_run
from tests.support.training import change
from tests.training.test_distributed import freeze_statistics

TOLERANCE = 1e-2
"""Largest difference of weights, as a share of the weights; a GPU adds in any order."""
REPORT = "import torch.distributed as d, kd.training.train as t; t._join(); print(d.get_backend())"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained teacher."""
    import kd.runtime  # noqa: F401
    from kd.training.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        train(write_run(TEACHER))
        yield


def in_group(processes: int, *command: str) -> str:
    """Run a Python command in each process of a group; return the output."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", str(processes), *command],
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python_environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_group_trains_the_weights_of_one_process(
    device: str, processes: int, project: None, request: pytest.FixtureRequest
) -> None:
    import torch

    from kd.models.weights import read_state
    from kd.training.train import train

    if device == "cuda" and torch.cuda.device_count() < processes:
        machine.skip("one GPU only", "run `pytest -m gpu` on a machine with two")
    run = write_run(DISTILLED)
    alone, shared = (copy_run(run, f"{name}-{processes}") for name in ("alone", "shared"))
    for directory in (alone, shared):
        change(directory, freeze_statistics)
    train(alone)
    in_group(processes, "-m", "kd", "train", str(shared))
    ours, theirs = (read_state(path / "weights.pth") for path in (shared, alone))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, rtol=TOLERANCE, atol=1e-3), name
    provenance = json.loads((shared / "provenance.json").read_text(encoding="utf-8"))
    assert len(provenance["devices"]) == (torch.cuda.device_count() if device == "cuda" else 0)


def test_the_backend_is_that_of_the_device(device: str, tmp_path: Path) -> None:
    script = tmp_path / "report.py"
    script.write_text(REPORT, encoding="utf-8")
    assert in_group(1, str(script)).strip() == {"cpu": "gloo", "cuda": "nccl"}[device]


def test_a_trained_run_is_evaluated_on_the_device(device: str, project: None) -> None:
    run = write_run(TEACHER)
    for command in ("predict", "evaluate"):
        process = python("kd", command, run)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert 0 <= metrics["AP"] <= 1
