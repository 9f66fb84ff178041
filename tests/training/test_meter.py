"""Resources of a training are summed over resumptions; energy is complete or None."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
import torch

import kd.runtime  # noqa: F401
from kd.models import weights
from kd.training.loop import ResumableEpochLoop
from kd.training.meter import Meter, Spent
from kd.training.train import train
from tests.support.tiny import STUDENT, copy_run, edit, make_project, write_run
from tests.support.training import assert_same, interrupted_before

STEPS = 12


class Driver:
    """A stand-in for NVML: counters in mJ by UUID."""

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
    """Return the time that the meter sees."""
    shown = {"now": 100.0}
    monkeypatch.setattr("kd.training.meter.time.monotonic", lambda: shown["now"])
    return shown


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch, a=7_000, b=1_000_000)


def test_processes_add_up_and_a_board_counts_once(driver: Driver, clock: dict[str, float]) -> None:
    meter = Meter(["a", "b", "a"], Spent(10.0, 20.0, 5.0))
    clock["now"] += 4
    driver.counters.update(a=8_500, b=1_002_000)
    assert meter.spent[:3] == (14.0, 20.0 + 3 * 4, 5.0 + 1.5 + 2.0)


def test_a_pause_takes_neither_time_nor_energy(driver: Driver, clock: dict[str, float]) -> None:
    meter = Meter(["a"], Spent())
    clock["now"], driver.counters["a"] = 101.0, 8_000
    with meter.paused():
        clock["now"], driver.counters["a"] = 151.0, 50_000
    clock["now"], driver.counters["a"] = 153.0, 50_500
    assert meter.spent[:3] == (3.0, 3.0, 1.5)


def test_a_pause_that_fails_ends_too(driver: Driver, clock: dict[str, float]) -> None:
    meter = Meter(["a"], Spent())
    clock["now"] = 101.0
    with pytest.raises(KeyError), meter.paused():
        raise KeyError
    assert meter.spent.seconds == 1.0


@pytest.mark.parametrize("gpus", [[], ["elsewhere"], ["a", "elsewhere"]])
def test_energy_is_unknown_where_a_gpu_is_out_of_reach(driver: Driver, gpus: list[str]) -> None:
    assert Meter(gpus, Spent()).spent.energy_joules is None


def test_energy_is_unknown_after_a_counter_began_anew(driver: Driver) -> None:
    meter = Meter(["a", "b"], Spent())
    driver.counters.update(a=10, b=9_000_000)
    assert meter.spent.energy_joules is None


def test_energy_is_unknown_once_the_driver_is_gone(driver: Driver) -> None:
    meter = Meter(["a"], Spent())
    driver.present = False
    assert meter.spent.energy_joules is None
    with meter.paused():
        driver.present = True
    assert meter.spent.energy_joules is None, "a part is no sum"


def test_the_peak_of_memory_is_that_of_all_resumptions() -> None:
    assert Meter([], Spent(peak_memory_mb=10**9)).spent.peak_memory_mb == 10**9
    assert 50 < Meter([], Spent()).spent.peak_memory_mb < 10**6


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
    """Let a training believe in a GPU, which draws a joule in each step."""
    make_step = ResumableEpochLoop.run_iter

    def run_iter(loop: ResumableEpochLoop, *arguments: Any) -> None:
        driver.counters["a"] += 1_000
        make_step(loop, *arguments)

    monkeypatch.setattr(ResumableEpochLoop, "run_iter", run_iter)
    monkeypatch.setattr("kd.training.loop.gpus_in_use", lambda: ["a"])
    return driver


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "provenance.json").read_text())


def test_a_training_on_a_cpu_has_no_energy(whole: Path) -> None:
    found = record(whole)
    assert (found["gpu_seconds"], found["energy_joules"]) == (0.0, None)
    seconds = 4 * STEPS / found["images_per_second"]
    assert seconds == pytest.approx(found["seconds"], abs=0.06)  # a record has tenths


def test_energy_is_summed_over_resumptions(whole: Path, on_gpu: Driver) -> None:
    run = copy_run(whole, "resumed")
    with interrupted_before(5):
        train(run)
    on_gpu.counters["a"] = 3  # the machine was started anew meanwhile
    train(run)
    found = record(run)
    # Four steps were kept of the first part; the second made the other eight.
    assert found["energy_joules"] == STEPS
    assert found["gpu_seconds"] == found["seconds"] > 0
    assert_same(run, whole)


def test_energy_is_unknown_after_a_part_without_driver(whole: Path, on_gpu: Driver) -> None:
    run = copy_run(whole, "without-driver")
    on_gpu.present = False
    with interrupted_before(5):
        train(run)
    on_gpu.present = True
    train(run)
    assert record(run)["energy_joules"] is None


def test_a_checkpoint_from_before_there_were_meters_goes_on(whole: Path, on_gpu: Driver) -> None:
    run = copy_run(whole, "older")
    with interrupted_before(5):
        train(run)
    (path,) = (run / "checkpoints").glob("step00000004.pth")
    content = weights.read(path)
    for name in ("gpu_seconds", "energy_joules", "peak_memory_mb"):
        del content[name]
    weights.save(path, content | {"seconds": 1000.0})
    train(run)
    found = record(run)
    assert found["energy_joules"] is None
    assert 1000 < found["seconds"] < 1100
    assert_same(run, whole)


def test_looking_at_ap_takes_no_energy_of_the_training(
    whole: Path, on_gpu: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_run(whole, "looking")
    look = "kd.training.validation.Validation._detections"

    def detections(self: Any, runner: Any, step: int) -> list[Any]:
        on_gpu.counters["a"] += 900_000
        return []

    monkeypatch.setattr(look, detections)
    train(run, val_interval=1)
    assert record(run)["energy_joules"] == STEPS
