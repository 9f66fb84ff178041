"""How fast trainings go: as finished ones did, or as their multiply-adds let expect."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.results import RESULTS
from kd.config.composed import read_config
from kd.config.library import Library
from kd.config.run import ClassifierRun, Run
from kd.resources.flops import WHERE, Training, Work

GPU_STEP = 0.1
"""Seconds that a step takes on a GPU however little there is to compute."""


Basis = Literal["measured", "corrected", "modelled"]
"""What a rate rests on: runs that differ in their seed, the model times what other finished runs
of the scale took of theirs, or the model alone."""


class Rate(NamedTuple):
    """Images a second, and what says so."""

    images_per_second: float
    basis: Basis


@dataclass(frozen=True)
class Speed:
    """Giga multiply-adds a second: of a GPU, and of a CPU thread."""

    gpu: float
    thread: float


@dataclass(frozen=True)
class Finished:
    """A training that ran to its end: images a second on so many GPUs, or threads of a CPU."""

    run: Training
    directory: Path
    rate: float
    gpus: int
    threads: int


class Rates:
    """Images a second of trainings and predictions, on ``gpus`` GPUs or ``threads`` threads."""

    def __init__(self, speed: Speed, library: Library) -> None:
        self.speed, self.library, self.work = speed, library, Work(library)
        self._correction = cache(self._median_of_measured_to_modelled)
        self._finished = cache(lambda folder, scale: list(_finished(folder, scale)))

    def training(self, run: Training, gpus: int, threads: int) -> Rate | None:
        """Return the rate of runs that differ in their seed or, if none, the modelled one.

        What is modelled is multiplied by what finished runs of the scale took of their models.
        """
        finished = self._finished(run.folder, run.scale)
        same = [
            other.rate / max(other.gpus, 1)
            for other in finished
            if bool(other.gpus) == bool(gpus) and _same_but_for_seed(run, other)
        ]
        if same:
            return Rate(median(same) * max(gpus, 1), "measured")
        modelled = self._modelled(run, gpus, threads)
        if not modelled:
            return None
        correction = self._correction(run.folder, run.scale, bool(gpus))
        return Rate(modelled * (correction or 1.0), "corrected" if correction else "modelled")

    def prediction(self, run: Training, gpus: int, threads: int) -> float | None:
        """Return images a second, one at a time."""
        return self._rate(self.work.inference(run), 1, gpus, threads)

    def _modelled(self, run: Training, gpus: int, threads: int) -> float | None:
        batch = self.library.schedule(run.schedule, WHERE).batch_size
        return self._rate(self.work.training(run), batch, gpus, threads)

    def _rate(self, work: float | None, batch: int, gpus: int, threads: int) -> float | None:
        """Return images a second of steps of ``batch`` images of so much work each."""
        if not work:
            return None
        if gpus:
            return batch / max(GPU_STEP, work * batch / gpus / self.speed.gpu)
        return self.speed.thread * threads / work

    def _median_of_measured_to_modelled(
        self, folder: str, scale: str, on_gpus: bool
    ) -> float | None:
        ratios = []
        for other in self._finished(folder, scale):
            if bool(other.gpus) != on_gpus:
                continue
            try:
                modelled = self._modelled(other.run, other.gpus, other.threads)
            except UserError:  # a part that is no more
                continue
            if modelled:
                ratios.append(other.rate / modelled)
        return median(ratios) if ratios else None


def _same_but_for_seed(run: Training, other: Finished) -> bool:
    """Return True if two trainings differ in their seed alone.

    The folder does not tell: rows of a sweep share it.
    """
    return (
        other.directory.parent == run.directory.parent
        and other.run.seedless_digest == run.seedless_digest
    )


def read_run(directory: Path) -> Run:
    """Return the run that a directory is of; UserError where it does not say."""
    parts, config = _parts(directory)
    teacher, classifier = parts.get("teacher"), parts.get("classifier")
    parts["teacher"] = read_run(RESULTS / Run.folder / teacher) if teacher else None
    folder = RESULTS / ClassifierRun.folder
    parts["classifier"] = read_classifier(folder / classifier) if classifier else None
    try:
        return Run(**parts, config=config)
    except TypeError as error:
        raise UserError(f"{directory / 'run.json'}: not the parts of a run: {error}") from None


def read_classifier(directory: Path) -> ClassifierRun:
    """Return the classifier's run that a directory is of; UserError where it does not say."""
    parts, config = _parts(directory)
    try:
        return ClassifierRun(**parts, config=config)
    except TypeError as error:
        raise UserError(f"{directory / 'run.json'}: not the parts of a run: {error}") from None


def _parts(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    parts, config = read_json(directory / "run.json"), read_config(directory)
    if not isinstance(parts, dict):
        raise UserError(f"{directory / 'run.json'}: not the parts of a run")
    return parts, config


def _finished(folder: str, scale: str) -> Iterator[Finished]:
    """Yield the trainings of a scale that were measured; unreadable ones are no reason to stop."""
    read: Callable[[Path], Training] = read_run if folder == Run.folder else read_classifier
    for path in sorted((RESULTS / folder / scale).glob("**/provenance.json")):
        try:
            record = read_json(path)
            rate, threads = float(record["images_per_second"]), int(record["threads"])
            gpus = round(record["gpu_seconds"] / record["seconds"])
            yield Finished(read(path.parent), path.parent, rate, gpus, threads)
        except (UserError, KeyError, TypeError, ValueError, ZeroDivisionError):
            continue
