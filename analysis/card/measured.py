"""Metrics of a run with 95 % intervals over resampled test images, also by class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.card.record import CardRecord
from analysis.matching.outcomes import read_arrays, read_matched_run
from analysis.statistics import resampled
from analysis.statistics.bootstrap import percentile_interval, resample
from analysis.statistics.gains import Gain, mean_gain, paired_gains
from analysis.statistics.seeds import POINTS, Interval
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.config.canonical import canonical_form, student_alone
from kd.config.composed import read_config
from kd.config.library import Library
from kd.config.run import seedless
from kd.evaluation.voc import Floats


@dataclass(frozen=True)
class Measured:
    """Intervals of a run's metrics in AP points; empty if the test split cannot be read."""

    metrics: Mapping[str, Interval] = field(default_factory=dict)
    classes: Mapping[str, Interval] = field(default_factory=dict)
    """Intervals of AP by class; one that many resamples lack is absent."""
    problem: str = ""
    """Why there are no intervals."""


def measure(record: CardRecord) -> Measured:
    """Compute the intervals of a run, and resample its test images if that was not done yet."""
    try:
        matched, _ = read_matched_run(record.directory, record.library)
        _resample(record.directory, record.library)
    except UserError as error:
        return Measured(problem=str(error))
    if matched.images < 2:
        return Measured(problem="the test split has fewer than two images")
    samples = read_arrays(record.directory / resampled.FILE)
    weights = resample(matched.images, resampled.RESAMPLES, resampled.SEED)
    by_class = POINTS * resampled.class_precisions(matched.coco, weights, matched.classes)
    return Measured(
        _intervals({name: samples[name] for name in resampled.METRICS}),
        _intervals(dict(zip(record.classes, by_class, strict=True))),
    )


def _resample(run: Path, library: Library) -> None:
    if resampled.current_samples(run, "AP") is None:
        resampled.write(run, library)


def _intervals(samples: Mapping[str, Floats]) -> dict[str, Interval]:
    """Return the interval of each row (1 + R,) of samples that are all defined."""
    intervals = {name: basic_interval(values) for name, values in samples.items()}
    return {name: interval for name, interval in intervals.items() if interval}


def basic_interval(samples: Floats) -> Interval | None:
    """Return the basic bootstrap interval of AP in points.

    None if a resample is undefined, and if all are equal: AP 0 or 100 shows no variation.

    ``samples``: (1 + R,) AP of the split and of each resample. AP of few images is too high on
    average, and AP of resamples is higher again by about as much. The basic interval mirrors the
    percentiles at the AP of the split, which subtracts this bias (Davison and Hinkley 1997, 5.2).
    The percentile interval adds it: docs/evidence/ap-intervals.csv has the coverage of both.
    """
    values = np.asarray(samples, dtype=float)
    low, high = percentile_interval(values[None, 1:], resampled.CONFIDENCE)
    if np.isnan(low[0]) or low[0] == high[0]:
        return None
    ends = np.clip(2 * values[0] - np.array([high[0], low[0]]), 0, POINTS)
    return Interval(float(ends[0]), float(ends[1]))


@dataclass(frozen=True)
class GainOverAlone:
    """The gain of a distilled student over the student alone, in AP points."""

    baseline: Path
    """The run of the student alone, of the same seed."""
    gain: float
    over_images: Interval | None
    """95 % interval over test images, of this pair of runs."""
    seeds: Gain | None
    """Mean over all seeds that both were trained with, if there are two or more."""
    seed_count: int
    teacher_gain: float | None = None
    """The teacher's AP minus that of the student alone."""
    teacher_over_images: Interval | None = None


def gain_over_alone(record: CardRecord) -> GainOverAlone | None:
    """Return the gain of a run; None if the student alone has no results under its conditions."""
    students, baselines = seeds_of(record), _baselines(record)
    seed = record.config.seed
    if seed not in baselines:
        return None
    baseline = baselines[seed]
    students[seed] = record.directory
    values = [
        {number: _points(run, record.metric) for number, run in runs.items()}
        for runs in (students, baselines)
    ]
    gains = paired_gains(*values)
    teacher = record.teacher if record.teacher and _is_measured(record.teacher) else None
    teacher_gain, teacher_interval = None, None
    if teacher:
        teacher_gain = _points(teacher, record.metric) - values[1][seed]
        teacher_interval = _image_interval(teacher, baseline, record)
    return GainOverAlone(
        baseline,
        values[0][seed] - values[1][seed],
        _image_interval(record.directory, baseline, record),
        mean_gain(gains) if len(gains) > 1 else None,
        len(gains),
        teacher_gain,
        teacher_interval,
    )


def _image_interval(run: Path, baseline: Path, record: CardRecord) -> Interval | None:
    try:
        for directory in (run, baseline):
            _resample(directory, record.library)
        samples = resampled.gain_samples({0: run}, {0: baseline}, record.metric)
    except UserError:  # the data are absent, or the runs have other test splits
        return None
    return None if samples is None else resampled.image_interval(samples)


def _points(run: Path, metric: str) -> float:
    value = read_json(run / "metrics.json")[metric]
    return float("nan") if value is None else POINTS * float(value)


def _is_measured(run: Path) -> bool:
    return (run / "metrics.json").exists()


def seeds_of(record: CardRecord) -> dict[int, Path]:
    """Return the evaluated runs of the same setting by seed."""
    return _by_seed(record.directory.parent, read_config(record.directory))


def _baselines(record: CardRecord) -> dict[int, Path]:
    """Return the evaluated runs of the student alone under the same conditions, by seed."""
    if record.config.kind != "distiller":
        return {}
    folder = record.directory.parent.parent / "alone"
    return _by_seed(folder, student_alone(read_config(record.directory)))


def _by_seed(folder: Path, settings: dict[str, Any]) -> dict[int, Path]:
    """Return the evaluated runs in a folder that differ from ``settings`` in their seed alone."""
    setting = seedless(canonical_form(settings))
    runs = sorted(path.parent for path in folder.glob("seed*/config.json"))
    configs = {run: read_config(run) for run in runs if _is_measured(run)}
    return {
        config["randomness"]["seed"]: run
        for run, config in configs.items()
        if seedless(canonical_form(config)) == setting
    }
