"""Training throughput, measured from finished runs or estimated from FLOPs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.results import RESULTS
from kd.config.library import Library
from kd.config.run import AnyRun, Run, read_classifier_run, read_run
from kd.resources.flops import RunFlops
from kd.resources.rehearsals import Rehearsals

SECONDS_PER_GPU_STEP = 0.1
"""Shortest time of a step on a GPU, however little it computes."""

Basis = Literal["measured", "rehearsed", "corrected", "modeled"]
"""Source of an estimate: ``measured`` on runs that differ only in their seed; ``rehearsed`` on a
few steps of the training; ``corrected``, the model times the median ratio of measured to modeled
throughput of the scale's finished runs; ``modeled``, FLOPs alone."""


class ThroughputEstimate(NamedTuple):
    """Images a second of a training, with the source of the number."""

    images_per_second: float
    basis: Basis


@dataclass(frozen=True)
class DeviceSpeed:
    """Giga multiply-adds a second of a GPU and of a CPU thread."""

    gpu: float
    thread: float


@dataclass(frozen=True)
class FinishedTraining:
    """A finished training with its measured throughput."""

    run: AnyRun
    directory: Path
    images_per_second: float
    gpus: int
    threads: int
    accumulate: int
    """Parts in which each process computed its batch."""


class Throughput:
    """Images a second of trainings and predictions, on ``gpus`` GPUs or ``threads`` threads.

    ``accumulate``: the parts in which each process computes its batch. Steps in parts are slower,
    so measurements of another number of parts are not used.
    """

    def __init__(self, speed: DeviceSpeed, library: Library, accumulate: int = 1) -> None:
        self.speed, self.flops, self.rehearsals = speed, RunFlops(library), Rehearsals()
        self.accumulate = accumulate
        self._correction = cache(self._median_of_measured_to_modeled)
        self._finished = cache(self._finished_in_as_many_parts)

    def training(self, run: AnyRun, gpus: int, threads: int) -> ThroughputEstimate | None:
        """Return the throughput of other seeds, of a rehearsal or, without both, the modeled one.

        The modeled throughput is multiplied by the correction of the run's scale.
        """
        per_device = [
            finished.images_per_second / max(finished.gpus, 1)
            for finished in self._finished(run.folder, run.scale)
            if bool(finished.gpus) == bool(gpus) and _differs_only_in_seed(run, finished)
        ]
        if per_device:
            return ThroughputEstimate(median(per_device) * max(gpus, 1), "measured")
        rehearsal = self.rehearsals.of(run)
        if rehearsal and rehearsal.has_speed_of(gpus, self.accumulate):
            factor = gpus / rehearsal.gpus if gpus else threads / rehearsal.threads
            return ThroughputEstimate(rehearsal.images_per_second * factor, "rehearsed")
        modeled = self._modeled(run, gpus, threads)
        if not modeled:
            return None
        correction = self._correction(run.folder, run.scale, bool(gpus))
        if correction:
            return ThroughputEstimate(modeled * correction, "corrected")
        return ThroughputEstimate(modeled, "modeled")

    def prediction(self, run: AnyRun, gpus: int, threads: int) -> float | None:
        """Return images a second in batches of one image."""
        return self._of_steps(self.flops.inference(run), 1, gpus, threads)

    def _modeled(self, run: AnyRun, gpus: int, threads: int) -> float | None:
        return self._of_steps(self.flops.training(run), run.composed.batch_size, gpus, threads)

    def _of_steps(
        self, gflops: float | None, batch_size: int, gpus: int, threads: int
    ) -> float | None:
        """Return images a second of steps that compute ``gflops`` giga multiply-adds an image."""
        if not gflops:
            return None
        if gpus:
            seconds = gflops * batch_size / gpus / self.speed.gpu
            return batch_size / max(SECONDS_PER_GPU_STEP, seconds)
        return self.speed.thread * threads / gflops

    def _finished_in_as_many_parts(self, folder: str, scale: str) -> list[FinishedTraining]:
        finished = _finished_trainings(folder, scale)
        return [training for training in finished if training.accumulate == self.accumulate]

    def _median_of_measured_to_modeled(
        self, folder: str, scale: str, on_gpus: bool
    ) -> float | None:
        ratios = []
        for finished in self._finished(folder, scale):
            if bool(finished.gpus) != on_gpus:
                continue
            try:
                modeled = self._modeled(finished.run, finished.gpus, finished.threads)
            except (UserError, KeyError):  # a part was removed, or the configuration is an old one
                continue
            if modeled:
                ratios.append(finished.images_per_second / modeled)
        return median(ratios) if ratios else None


def _differs_only_in_seed(run: AnyRun, finished: FinishedTraining) -> bool:
    """Return True if two trainings differ in their seed alone.

    Rows of a sweep share a folder, so the configurations are compared as well.
    """
    return (
        finished.directory.parent == run.directory.parent
        and finished.run.seedless_digest == run.seedless_digest
    )


def _finished_trainings(folder: str, scale: str) -> Iterator[FinishedTraining]:
    """Yield the finished trainings of a scale; skip those whose records cannot be read."""
    for path in sorted((RESULTS / folder / scale).glob("**/provenance.json")):
        directory = path.parent
        try:
            record = read_json(path)
            is_detector = folder == Run.folder
            yield FinishedTraining(
                run=read_run(directory) if is_detector else read_classifier_run(directory),
                directory=directory,
                images_per_second=float(record["images_per_second"]),
                gpus=round(record["gpu_seconds"] / record["seconds"]),
                threads=int(record["threads"]),
                accumulate=int(record.get("accumulate", 1)),  # records of earlier versions lack it
            )
        except (UserError, KeyError, TypeError, ValueError, ZeroDivisionError):
            continue
