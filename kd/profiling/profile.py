"""Profile of a run: the cost of its step by part and beside its bound."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.common.progress import progress
from kd.common.timing import quartiles
from kd.config.canonical import student_alone
from kd.config.compose import WEIGHTS
from kd.config.composed import ComposedConfig, read_config
from kd.profiling import measure
from kd.profiling.measure import Memory, Parts, Times, by_part, medians
from kd.profiling.trainee import Trainee
from kd.records import provenance
from kd.training.term_scale import ratios

Profile = dict[str, Any]
"""Content of ``profile.json``; docs/explanation/profiling.md explains each entry."""


@dataclass(frozen=True)
class Extent:
    """Number of steps, images and processes of the measurements."""

    steps: int = 10
    batch: int | None = None
    """Images of a step; by default the run's batch size."""
    workers: int = 0
    """Data loading processes."""


def profile(directory: Path, extent: Extent) -> Profile:
    """Measure a run that is composed or trained; UserError if it cannot be trained yet."""
    config = read_config(directory)
    _check(ComposedConfig(config), directory)
    if extent.batch:
        config["train_dataloader"]["batch_size"] = extent.batch
    trained = directory / WEIGHTS if (directory / WEIGHTS).exists() else None
    trainee = Trainee.build(config, trained, extent.workers)
    data = next(trainee.batches())
    distilled = ComposedConfig(config).kind == "distiller"
    student = Trainee.build(student_alone(config), trained) if distilled else None
    costs = (
        _beside_bound(student, trainee, data, extent) if student else _alone(trainee, data, extent)
    )
    return {
        **_about(trainee, data, directory, extent),
        **costs,
        "terms": _terms(trainee, data) if distilled else {},
        "data": quartiles(measure.waits(trainee, extent.steps))._asdict(),
    }


def _check(config: ComposedConfig, directory: Path) -> None:
    """Raise UserError if a run trains nothing or a teacher's weights are absent."""
    if not config.has_split("train"):
        raise UserError(
            f"{directory}: has published weights and no training to profile; name a trained run"
        )
    config.require_teachers(directory)


def _about(trainee: Trainee, data: Any, directory: Path, extent: Extent) -> Profile:
    return {
        "run": str(directory),
        "time": provenance.now(),
        **provenance.environment(),
        "shape": list(trainee.model.data_preprocessor(data, True)["inputs"].shape),
        "steps": extent.steps,
        "workers": extent.workers,
    }


def _terms(trainee: Trainee, data: Any) -> dict[str, float]:
    """Return each term's gradient at the neck over that of detection, with the run's weights."""
    trainee.model.probing = True
    trainee.losses(data)
    trainee.model.probing = False
    return ratios(trainee.model.probed)


def _beside_bound(student: Trainee, distilled: Trainee, data: Any, extent: Extent) -> Profile:
    """Measure a distilled step and the two parts of its bound in turn."""
    replay = measure.replay_of(distilled, data)
    times = measure.times(student, distilled, replay, data, extent.steps)
    bounds: list[Parts] = []
    steps: list[Parts] = []
    with ExitStack() as stack:
        alone, taught = (stack.enter_context(by_part(trainee)) for trainee in (student, distilled))
        for number in progress(range(extent.steps + 1), extent.steps + 1, "steps by part"):
            parts = alone.step(data) | measure.replayed(replay), taught.step(data)
            if number:  # the first is for caches and allocators
                bounds.append(parts[0])
                steps.append(parts[1])
        waiting = {"bound": alone.synchronizations(data), "step": taught.synchronizations(data)}
        peaks = taught.peaks(data)
    peak, alone_peak = (measure.peak_of(trainee, data) for trainee in (distilled, student))
    memory = Memory(peak, alone_peak, replay.read_bytes)
    return {
        "ratio": times.ratio._asdict(),
        "seconds": _seconds(times),
        "parts": {"bound": _spreads(bounds), "step": _spreads(steps)},
        "memory": {**memory._asdict(), "extra": memory.extra, "parts": peaks},
        "synchronizations": waiting,
    }


def _alone(trainee: Trainee, data: Any, extent: Extent) -> Profile:
    """Measure a step without a teacher."""
    with by_part(trainee) as charged:
        steps = [
            charged.step(data)
            for _ in progress(range(extent.steps + 1), extent.steps + 1, "steps by part")
        ][1:]
        waiting = charged.synchronizations(data)
        peaks = charged.peaks(data)
    return {
        "ratio": None,
        "seconds": {"step": quartiles([sum(step.values()) for step in steps])._asdict()},
        "parts": {"step": _spreads(steps)},
        "memory": {"step": measure.peak_of(trainee, data), "parts": peaks},
        "synchronizations": {"step": waiting},
    }


def _seconds(times: Times) -> Profile:
    cases = {**times._asdict(), "bound": times.bound}
    return {case: quartiles(seconds)._asdict() for case, seconds in cases.items()}


def _spreads(steps: list[Parts]) -> Profile:
    return {part: value._asdict() for part, value in medians(steps).items()}
