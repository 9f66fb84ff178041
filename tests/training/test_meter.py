"""Resources of a training, summed over resumptions; energy is None unless all was measured."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
import torch

import kd.runtime  # noqa: F401
from kd.evaluation.stored import StoredDetections
from kd.models import weights
from kd.training.loop import ResumableEpochLoop
from kd.training.meter import Meter, UsedResources
from kd.training.train import train
from tests.support.tiny import STUDENT, copy_run, edit, make_project, write_run
from tests.support.training import assert_same, interrupted_before

STEPS = 12


class Driver:
    """Fake of NVML with energy counters in mJ by UUID."""

    def __init__(self, patch: pytest.MonkeyPatch, **counters: int) -> None:
        self.counters, self.present = counters, True
        patch.setattr(pynvml, "nvmlInit", self.load)
        patch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", self.find)
        patch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", self.counters.__getitem__)

    def load(self) -> None:
        if not self.present:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    def find(self, uuid: str) -> str:
        if uuid not in self.counters:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the clock of the meter; tests set its ``now``."""
    fake_clock = {"now": 100.0}
    monkeypatch.setattr("kd.training.meter.time.monotonic", lambda: fake_clock["now"])
    return fake_clock


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch, a=7_000, b=1_000_000)


def test_gpu_time_counts_processes_and_energy_counts_boards(
    driver: Driver, clock: dict[str, float]
) -> None:
    meter = Meter(["a", "b", "a"], UsedResources(10.0, 20.0, 5.0))
    clock["now"] += 4
    driver.counters.update(a=8_500, b=1_002_000)
    assert meter.used[:3] == (14.0, 20.0 + 3 * 4, 5.0 + 1.5 + 2.0)


def test_a_pause_adds_neither_time_nor_energy(driver: Driver, clock: dict[str, float]) -> None:
    meter = Meter(["a"], UsedResources())
    clock["now"], driver.counters["a"] = 101.0, 8_000
    with meter.paused():
        clock["now"], driver.counters["a"] = 151.0, 50_000
    clock["now"], driver.counters["a"] = 153.0, 50_500
    assert meter.used[:3] == (3.0, 3.0, 1.5)


def test_a_pause_ends_after_an_exception(driver: Driver, clock: dict[str, float]) -> None:
    meter = Meter(["a"], UsedResources())
    clock["now"] = 101.0
    with pytest.raises(KeyError), meter.paused():
        raise KeyError
    assert meter.used.seconds == 1.0


@pytest.mark.parametrize("gpus", [[], ["elsewhere"], ["a", "elsewhere"]])
def test_energy_is_none_if_nvml_does_not_find_a_gpu(driver: Driver, gpus: list[str]) -> None:
    assert Meter(gpus, UsedResources()).used.energy_joules is None


def test_energy_is_none_after_a_counter_was_reset(driver: Driver) -> None:
    meter = Meter(["a", "b"], UsedResources())
    driver.counters.update(a=10, b=9_000_000)
    assert meter.used.energy_joules is None


def test_energy_is_none_after_the_driver_was_unloaded(driver: Driver) -> None:
    meter = Meter(["a"], UsedResources())
    driver.present = False
    assert meter.used.energy_joules is None
    with meter.paused():
        driver.present = True
    assert meter.used.energy_joules is None, "the energy of the first part is missing"


def test_peak_memory_is_the_largest_of_all_resumptions() -> None:
    assert Meter([], UsedResources(peak_memory_mb=10**9)).used.peak_memory_mb == 10**9
    assert 50 < Meter([], UsedResources()).used.peak_memory_mb < 10**6


# In a training


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a run on a CPU, in a tiny project that saves every second step."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        edit("configs/schedules/tiny.yaml", checkpoint_steps=2)
        run = write_run(STUDENT)
        train(run)
        yield run


@pytest.fixture
def on_gpu(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Simulate a GPU that uses one joule in each step."""
    make_step = ResumableEpochLoop.run_iter

    def run_iter(loop: ResumableEpochLoop, *arguments: Any) -> None:
        driver.counters["a"] += 1_000
        make_step(loop, *arguments)

    monkeypatch.setattr(ResumableEpochLoop, "run_iter", run_iter)
    monkeypatch.setattr("kd.training.loop.gpus_in_use", lambda: ["a"])
    return driver


def read_provenance(run: Path) -> dict[str, Any]:
    return json.loads((run / "provenance.json").read_text())


def test_a_training_on_a_cpu_has_no_energy(whole: Path) -> None:
    provenance = read_provenance(whole)
    assert (provenance["gpu_seconds"], provenance["energy_joules"]) == (0.0, None)
    seconds = 4 * STEPS / provenance["images_per_second"]
    assert seconds == pytest.approx(provenance["seconds"], abs=0.06)  # rounded to tenths


def test_energy_is_summed_over_resumptions(whole: Path, on_gpu: Driver) -> None:
    run = copy_run(whole, "resumed")
    with interrupted_before(5):
        train(run)
    on_gpu.counters["a"] = 3  # as after a restart of the machine
    train(run)
    provenance = read_provenance(run)
    # The checkpoint has four steps of the first part; the second part made the other eight.
    assert provenance["energy_joules"] == STEPS
    assert provenance["gpu_seconds"] == provenance["seconds"] > 0
    assert_same(run, whole)


def test_energy_is_none_after_a_part_without_a_driver(whole: Path, on_gpu: Driver) -> None:
    run = copy_run(whole, "without-driver")
    on_gpu.present = False
    with interrupted_before(5):
        train(run)
    on_gpu.present = True
    train(run)
    assert read_provenance(run)["energy_joules"] is None


def test_a_checkpoint_without_gpu_time_energy_and_memory_resumes(
    whole: Path, on_gpu: Driver
) -> None:
    """Checkpoints of early versions have the time alone."""
    run = copy_run(whole, "older")
    with interrupted_before(5):
        train(run)
    (path,) = (run / "checkpoints").glob("step00000004.pth")
    content = weights.read(path)
    for name in ("gpu_seconds", "energy_joules", "peak_memory_mb"):
        del content[name]
    weights.save(path, content | {"seconds": 1000.0})
    train(run)
    provenance = read_provenance(run)
    assert provenance["energy_joules"] is None
    assert 1000 < provenance["seconds"] < 1100
    assert_same(run, whole)


def test_validation_adds_no_energy_to_the_training(
    whole: Path, on_gpu: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_run(whole, "validated")

    def detections(self: Any, runner: Any, step: int) -> StoredDetections:
        on_gpu.counters["a"] += 900_000
        return StoredDetections.concatenate([])

    monkeypatch.setattr("kd.training.validation.Validation._detections", detections)
    train(run, val_interval=1)
    assert read_provenance(run)["energy_joules"] == STEPS
