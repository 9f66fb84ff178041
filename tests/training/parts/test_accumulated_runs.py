"""Runs whose steps are computed in parts: weights, logs, resuming, statistics and errors."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.cli.main import main
from kd.config.composed import read_config
from kd.models.weights import read_state
from kd.training.distiller import Distiller
from kd.training.parts.accumulation import parts_of
from kd.training.parts.memory import is_out_of_memory, out_of_memory
from kd.training.train import build_runner, train
from tests.support.tiny import DISTILLED, STUDENT, copy_run, write_run
from tests.support.training import (
    assert_same,
    change,
    digest,
    interrupted_before,
    log,
    project_with_teacher,
)

TOLERANCE = 1e-3
"""Largest difference of weights, as a share of their change in training."""
STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained teacher: 6 steps of 4 images, the last of 2."""
    with project_with_teacher(tmp_path_factory.mktemp("project")):
        yield


def frozen_statistics(config: dict[str, Any]) -> None:
    """Freeze batch normalization of the backbone, as the schedules of the papers do."""
    model = config["model"].get("student", config["model"])
    model["backbone"]["norm_eval"] = True


def frozen_run(copy: str, name: str = DISTILLED) -> Path:
    run = copy_run(write_run(name), copy)
    change(run, frozen_statistics)
    return run


@pytest.fixture(scope="module")
def in_parts(project: None) -> Path:
    """Return a distilled run whose steps were computed in two parts."""
    run = frozen_run("in-parts")
    train(run, accumulate=2)
    return run


# Equal runs


def test_a_run_in_parts_has_the_steps_weights_and_log_of_a_whole_run(in_parts: Path) -> None:
    whole, start = frozen_run("whole"), frozen_run("start")
    train(whole)
    change(start, lambda config: config["optim_wrapper"]["optimizer"].update(lr=0.0))
    train(start)
    initial, expected, state = (read_state(r / "weights.pth") for r in (start, whole, in_parts))
    trained = [key for key in expected if not expected[key].equal(initial[key])]
    assert any("backbone" in key for key in trained)
    for key in trained:
        gap = (state[key] - expected[key]).norm()
        assert gap < TOLERANCE * (expected[key] - initial[key]).norm(), key
    records, others = log(in_parts), log(whole)
    assert [record["step"] for record in records] == [record["step"] for record in others]
    for record, other in zip(records, others, strict=True):
        assert record["lr"] == other["lr"]
        assert record["loss"] == pytest.approx(other["loss"], rel=TOLERANCE)
    provenance = [json.loads((run / "provenance.json").read_text()) for run in (in_parts, whole)]
    assert [record["accumulate"] for record in provenance] == [2, 1]
    assert [record["steps"] for record in provenance] == [STEPS, STEPS]


@pytest.mark.parametrize("stop", [3, 6])
def test_an_interrupted_run_in_parts_ends_with_the_same_bits(in_parts: Path, stop: int) -> None:
    run = frozen_run(f"interrupted-{stop}")
    with interrupted_before(stop):
        train(run, accumulate=2)
    train(run, accumulate=2)
    assert_same(run, in_parts)


def test_a_cache_of_teacher_outputs_changes_no_bit(in_parts: Path) -> None:
    run = frozen_run("cached")
    train(run, accumulate=2, teacher_cache_mb=500)
    assert digest(run) == digest(in_parts)


def test_a_run_may_continue_with_another_number_of_parts(in_parts: Path) -> None:
    run = frozen_run("continued")
    with interrupted_before(4):
        train(run)
    train(run, accumulate=4)
    assert digest(run) != digest(in_parts)
    assert json.loads((run / "provenance.json").read_text())["steps"] == STEPS


# Parts of a step


@pytest.mark.parametrize(
    ("images", "largest", "sizes"),
    [
        pytest.param(16, 4, [4, 4, 4, 4], id="whole batch"),
        pytest.param(10, 4, [2] * 5, id="two parts of 5 would be too large"),
        pytest.param(7, 4, [1] * 7, id="a prime number of images"),
        pytest.param(3, 4, [3], id="one part"),
        pytest.param(1, 4, [1], id="one image"),
    ],
)
def test_parts_are_equal_and_in_order(images: int, largest: int, sizes: list[int]) -> None:
    data = {"inputs": torch.arange(images), "data_samples": list(range(images))}
    parts = parts_of(data, largest)
    assert [len(part["inputs"]) for part in parts] == sizes
    assert torch.cat([part["inputs"] for part in parts]).tolist() == list(range(images))
    assert [sample for part in parts for sample in part["data_samples"]] == list(range(images))


def counted_calls(run: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[bool]]:
    """Train a run in two parts; return its runner and its forward passes: with gradients or not."""
    calls: list[bool] = []
    runner: Any = build_runner(read_config(run), run, accumulate=2)
    model = runner.model
    forward = model.forward

    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls.append(torch.is_grad_enabled())
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", recorded)
    runner.train()
    return runner, calls


def test_statistics_count_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, calls = counted_calls(copy_run(write_run(STUDENT), "statistics"), monkeypatch)
    # Ten steps of two parts, and two last steps of an epoch of two images in one part.
    assert (calls.count(True), calls.count(False)) == (22, 20)
    batches = [
        value for name, value in runner.model.named_buffers() if "num_batches_tracked" in name
    ]
    assert batches
    assert {int(value) for value in batches} == {22}


def test_the_teacher_runs_once_for_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    observe = Distiller.observe_teachers

    def recorded(model: Distiller, batch: Any) -> Any:
        batches.append(len(batch.inputs))
        return observe(model, batch)

    monkeypatch.setattr(Distiller, "observe_teachers", recorded)
    _, calls = counted_calls(frozen_run("teachers"), monkeypatch)
    assert len(calls) == 42
    assert batches == [2] * 22


def test_losses_without_counts_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first step of an epoch checks if there are counts."""
    monkeypatch.setattr("kd.methods.ops.reduction.participants", lambda: 1)
    run = copy_run(write_run(STUDENT), "no-counts")
    monkeypatch.setattr("kd.models.patched_heads.shared_count", lambda count: max(count, 1))
    _, calls = counted_calls(run, monkeypatch)
    assert (calls.count(True), calls.count(False)) == (22, 4)


# Errors


def test_parts_that_do_not_divide_the_batch_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    run = copy_run(write_run(STUDENT), "three-parts")
    line = "4 images cannot be computed in 3 equal parts; valid for --accumulate: 1, 2, 4"
    assert main(["train", str(run), "--accumulate", "3"]) == 2
    assert capfd.readouterr().err.strip().endswith(line)
    assert main(["train", str(run), "--processes", "2", "--accumulate", "4"]) == 2
    line = "2 images on each of 2 processes cannot be computed in 4 equal parts; valid for "
    assert f"{line}--accumulate: 1, 2" in capfd.readouterr().err


def test_too_little_gpu_memory_is_one_line_and_a_failure(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    message = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8 GiB"

    def forward(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError(message)

    monkeypatch.setattr("mmdet.models.detectors.SingleStageDetector.forward", forward)
    run = copy_run(write_run(STUDENT), "memory")
    assert main(["train", str(run)]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if "memory" in line]
    assert len(errors) == 1
    line = (
        "out of GPU memory with 4 images at a time (CUDA out of memory. Tried to allocate 20.00 "
        "MiB); set 'accumulate' to 2 (`kd train --accumulate 2`, or --config accumulate=2), or "
        "share the batch among more GPUs ('gpus'); results stay the same up to rounding"
    )
    assert errors[0].endswith(line)
    failure = json.loads((run / "failure.json").read_text())
    assert (failure["reason"], failure["kind"]) == (line, "OutOfMemoryError")


def test_memory_that_the_machine_refuses_is_one_line() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**58)
    assert is_out_of_memory(refused.value)
    line = str(out_of_memory(refused.value, batch_size=16, accumulate=1))
    assert line.startswith(
        "out of memory with 16 images at a time (DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 1152921504606846976 bytes"
    )
    assert line.endswith("accumulate=2); results stay the same up to rounding")
    assert not is_out_of_memory(RuntimeError("another error"))


def test_a_part_of_one_image_has_no_smaller_part() -> None:
    error = out_of_memory(torch.OutOfMemoryError(), batch_size=4, accumulate=4)
    assert str(error) == (
        "out of GPU memory with 1 image at a time (OutOfMemoryError); 'accumulate' and 'gpus' "
        "leave one image at a time already, so use a GPU with more memory"
    )
