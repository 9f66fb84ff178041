"""Teachers of another detector than the student's, with another pyramid."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.figures.regions.compute import compute_regions
from kd.config.library import Library
from kd.config.plan import Plan
from kd.models.weights import read_state
from kd.training.train import train
from tests.support.states import changed
from tests.support.tiny import copy_run

Study = Callable[..., Plan]
LEVELS = {"faster_rcnn": 4, "fcos": 5}
"""Levels whose stride RetinaNet has too; the neck of the tiny FCOS is wider than RetinaNet's."""


def trained(directory: Path, **options: Any) -> list[dict[str, Any]]:
    """Train a run and return the lines of its log."""
    train(directory, **options)
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("teacher", LEVELS)
def test_retinanet_learns_from_the_levels_of_equal_stride(study: Study, teacher: str) -> None:
    plan = study(["pkd", "cwd", "fitnets"], teacher_detector=teacher)
    for run in plan.runs.values():
        if run.method:
            run.write()
            term = f"loss_{run.method}"
            terms = [step[term] for step in trained(run.directory) if term in step]
            assert terms and all(0 < value < 1e4 for value in terms)
            (focus,) = compute_regions(run.directory, 0, Library(Path("configs"))).focus.values()
            assert len(focus.maps) == (4 if run.method == "pkd" else LEVELS[teacher])


def test_a_cache_of_the_other_detectors_outputs_changes_no_weight(study: Study) -> None:
    plan = study(["pkd_mmrazor"], teacher_detector="faster_rcnn")
    (run,) = (run for run in plan.runs.values() if run.method)
    run.write()
    cached = copy_run(run.directory, "cached")
    train(run.directory)
    train(cached, teacher_cache_mb=50)
    states = (read_state(directory / "weights.pth") for directory in (run.directory, cached))
    assert changed(*states) == []
