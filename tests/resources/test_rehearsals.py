"""Resource requests from rehearsals, only of the same device, parts and number of images."""

import math
from pathlib import Path
from typing import Any

import pytest

from kd.config.run import Run
from kd.resources.rehearsals import Rehearsal, rehearsal_key
from tests.support.requests import IMAGES, finish, run_named, training_request, workflow
from tests.support.tiny import make_project

STUDENT, DISTILLED = "retinanet-r18/alone", "retinanet-r18/rm_from_retinanet-r50"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def rehearse(run: Run, **changes: Any) -> None:
    """Write the record of a rehearsal of a run on a GPU: half a second for a step of 16 images."""
    values: dict[str, Any] = {
        "run": run.name, "device": "A100", "gpus": 1, "threads": 2, "workers": 4, "steps": 20,
        "batch": 16, "planned_batch": 16, "data": "coco2017", "random_weights": (),
        "first_step": 30.0, "seconds_per_step": 0.5, "images_per_second": 32.0,
        "process_mb": 4000, "gpu_mb": 9000, "checkpoint_mb": 300.0,
        "seconds": {}, "gradient_ratios": {}, "losses": {},
    }  # fmt: skip
    Rehearsal(**{**values, **changes}).write(rehearsal_key(run.config))


def test_a_rehearsal_sets_time_and_memory_until_a_training_has_finished() -> None:
    before = training_request(STUDENT, gpus=1)
    run = run_named(workflow(), STUDENT)
    rehearse(run)
    request = training_request(STUDENT, gpus=1)
    # 10 minutes to start, and 1.5 times the time of all images at 32 a second.
    assert request.runtime == 10 + math.ceil(1.5 * IMAGES / 32 / 60)
    # 1.3 times the memory of the process, and 1500 MB for each of four loading processes.
    assert request.mem_mb == 5200 + 4 * 1500
    assert before.mem_mb == 12_000 + 4 * 1500
    assert training_request(STUDENT, gpus=2).runtime == 10 + math.ceil(1.5 * IMAGES / 64 / 60)
    finish(run, images_per_second=64.0)
    assert training_request(STUDENT, gpus=1).runtime == 10 + math.ceil(1.5 * IMAGES / 64 / 60)


def test_a_rehearsal_with_a_cut_batch_sets_no_memory() -> None:
    before = training_request(DISTILLED, gpus=0)
    rehearse(run_named(workflow(), DISTILLED), batch=2, gpus=0, images_per_second=1e4)
    request = training_request(DISTILLED, gpus=0)
    assert request.mem_mb == before.mem_mb
    assert request.runtime < before.runtime


def test_a_cut_batch_is_no_measurement_of_a_gpu() -> None:
    before = training_request(DISTILLED, gpus=1)
    rehearse(run_named(workflow(), DISTILLED), batch=2)
    assert training_request(DISTILLED, gpus=1) == before


def test_a_rehearsal_on_a_cpu_is_no_measurement_of_a_gpu() -> None:
    before = training_request(DISTILLED, gpus=1)
    rehearse(run_named(workflow(), DISTILLED), gpus=0, gpu_mb=None)
    assert training_request(DISTILLED, gpus=1) == before


def test_a_rehearsal_in_other_parts_is_no_measurement() -> None:
    before = training_request(DISTILLED, gpus=1)
    rehearse(run_named(workflow(), DISTILLED), accumulate=4)
    assert training_request(DISTILLED, gpus=1) == before
    in_parts = training_request(DISTILLED, gpus=1, accumulate=4)
    assert in_parts.runtime == 10 + math.ceil(1.5 * IMAGES / 32 / 60)
    assert in_parts.mem_mb == 5200 + 4 * 1500
    # More parts need less memory, and take another time.
    smaller = training_request(DISTILLED, gpus=1, accumulate=8)
    assert (smaller.runtime, smaller.mem_mb) == (before.runtime, in_parts.mem_mb)


def test_a_rehearsal_of_fewer_images_at_a_time_sets_no_memory() -> None:
    before = training_request(DISTILLED, gpus=1)
    rehearse(run_named(workflow(), DISTILLED), gpus=4)
    assert training_request(DISTILLED, gpus=1).mem_mb == before.mem_mb
    assert training_request(DISTILLED, gpus=4).mem_mb == 4 * (5200 + 4 * 1500)
    assert training_request(DISTILLED, gpus=8).mem_mb == 8 * (5200 + 4 * 1500)


def test_a_rehearsal_on_a_short_list_of_images_sets_no_memory() -> None:
    before = training_request(DISTILLED, gpus=1)
    rehearse(run_named(workflow(), DISTILLED), listed_images=500)
    request = training_request(DISTILLED, gpus=1)
    assert request.mem_mb == before.mem_mb
    assert request.runtime != before.runtime
