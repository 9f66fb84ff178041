"""Configuration of a rehearsal: that of the run, with few steps that compute every term."""

import copy
from pathlib import Path
from typing import Any

import pytest

from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from kd.config.selection import StudyOptions
from kd.rehearsal.configuration import RehearsalExtent, rehearsed
from tests.support.tiny import make_project


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return the distilled run with RM and PFI, in a project without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    runs = plan("tiny", "tiny", Library(), StudyOptions()).runs.values()
    return next(run for run in runs if run.method == "rm+pfi")


def configuration(run: Run, extent: RehearsalExtent, *, on_gpu: bool = False) -> dict[str, Any]:
    dataset = Library().dataset(run.dataset, "here")
    return rehearsed(run.config, run.dataset, dataset, extent, on_gpu=on_gpu)


@pytest.mark.parametrize(("batch", "expected"), [(2, 2), (64, 4), (None, 4)])
def test_a_batch_is_cut_and_never_raised(run: Run, batch: int | None, expected: int) -> None:
    config = configuration(run, RehearsalExtent(batch=batch))
    assert config["train_dataloader"]["batch_size"] == expected


@pytest.mark.parametrize(
    ("steps", "on_gpu", "expected"), [(None, True, 20), (None, False, 2), (7, True, 7)]
)
def test_it_stops_after_half_of_the_steps(
    run: Run, steps: int | None, on_gpu: bool, expected: int
) -> None:
    config = configuration(run, RehearsalExtent(steps), on_gpu=on_gpu)
    assert config["train_cfg"]["stop_step"] == expected
    assert config["custom_hooks"][-1] == {"type": "StepTimes", "stop_after": expected // 2}


def test_terms_that_start_late_are_computed_from_the_first_step_on(run: Run) -> None:
    methods = run.config["model"]["methods"]
    methods["pfi"] |= {"from_epoch": 1, "until_epoch": 2, "warmup_steps": 500}
    before = copy.deepcopy(run.config)
    term = configuration(run, RehearsalExtent())["model"]["methods"]["pfi"]
    changed = {"from_epoch": None, "until_epoch": None, "warmup_steps": 0}
    assert term == methods["pfi"] | changed
    assert run.config == before
