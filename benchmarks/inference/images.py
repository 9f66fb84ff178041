"""Simulated gains that vary with seeds and images, and the coverage of their intervals."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from analysis.statistics.bootstrap import average_precision, rank, resample, tally
from analysis.statistics.joint import joint_interval
from analysis.statistics.moderated import moderated_errors
from analysis.statistics.pooled import CellDesign
from analysis.statistics.seeds import POINTS, Interval, t_interval
from benchmarks.inference.looks import KINDS
from benchmarks.inference.studies import row_errors
from kd.evaluation.voc import Floats, Integers

IMAGES, RESAMPLES = 150, 300
SEEDS = (3, 5, 10)
TITLES = ("seeds alone", "images alone", "both drawn", "joint")


class Variation(NamedTuple):
    """Standard deviations of a gain in AP points."""

    seeds: float
    images: float
    """Deviation of the mean over the test images."""
    together: float
    """Deviation of that mean between seeds: the interaction of seeds and images."""


SPREADS = {"seeds": 0.4, "both": 0.15, "images": 0.05}
"""Deviations of the quality of runs, and the larger part of the variation of AP."""
MOST_SEEDS_OF_AP = 5
"""AP of more seeds takes an hour."""
VARIATIONS = {
    "seeds": Variation(1.0, 0.2, 0.2),
    "both": Variation(0.7, 0.4, 0.3),
    "images": Variation(0.3, 0.5, 0.2),
}


def mean_gains(
    generator: np.random.Generator, seeds: int, variation: Variation, weights: Floats
) -> Floats:
    """Return samples (S, 1 + R) of gains that are means over images, with a true gain of 0."""
    root = np.sqrt(IMAGES)
    per_image = variation.seeds * generator.standard_normal((seeds, 1))
    per_image = per_image + root * variation.images * generator.standard_normal((1, IMAGES))
    per_image += root * variation.together * generator.standard_normal((seeds, IMAGES))
    return per_image @ weights / IMAGES


def precision_gains(
    generator: np.random.Generator, seeds: int, spread: float, weights: Floats
) -> Floats:
    """Return samples (S, 1 + R) of gains in AP of simulated detections, in points.

    Objects of an image share its difficulty, and runs of a seed its quality, whose standard
    deviation is ``spread`` on the scale of logits. A student detects more than its baseline.
    """
    counts = generator.integers(1, 5, IMAGES)
    image = np.repeat(np.arange(IMAGES), counts)
    difficulty = generator.normal(0, 1, IMAGES)[image] + generator.normal(0, 1, len(image))
    objects = tally(image, np.zeros_like(image), 1, IMAGES) @ weights
    quality = np.array([[0.0], [0.4]]) + spread * generator.standard_normal((2, seeds))
    baseline, student = (
        [_precision(generator, image, logit - difficulty, objects, weights) for logit in logits]
        for logits in quality
    )
    return POINTS * (np.array(student) - np.array(baseline))


def _precision(
    generator: np.random.Generator,
    image: Integers,
    logits: Floats,
    objects: Floats,
    weights: Floats,
) -> Floats:
    """Return AP (1 + R,) of a run that detects objects with these logits, and wrong boxes."""
    hit = generator.logistic(size=len(logits)) < logits
    wrong = generator.integers(0, IMAGES, 2 * IMAGES)
    images = np.concatenate([image[hit], wrong])
    scores = np.concatenate([generator.normal(1, 1, hit.sum()), generator.normal(0, 1, len(wrong))])
    order = np.argsort(-scores)
    correct = np.arange(len(images)) < hit.sum()
    labels = np.zeros(len(images), dtype=np.int64)
    ranked = rank(images[order], labels, correct[order], 1, IMAGES)
    return average_precision(ranked, weights, objects)[0]


def intervals(generator: np.random.Generator, samples: Floats) -> list[Interval]:
    """Return the interval of each rule in ``TITLES``."""
    seeds, columns = samples.shape
    alone, joint = t_interval(samples[:, 0]), joint_interval(samples)
    assert alone is not None and joint is not None
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), columns - 1).T / seeds
    ends = [0.025, 0.975]
    by_images = np.quantile(samples[:, 1:].mean(axis=0), ends)
    by_both = np.quantile((samples[:, 1:] * seed_weights).sum(axis=0), ends)
    return [alone, Interval(*by_images), Interval(*by_both), joint]


def coverage(samples: list[Floats], true: float) -> Floats:
    """Return the share of studies whose interval contains the true gain, for each rule."""
    generator = np.random.default_rng(1)
    covered = [
        [interval.low <= true <= interval.high for interval in intervals(generator, study)]
        for study in samples
    ]
    return np.mean(covered, axis=0)


def coverage_lines(studies: int) -> Iterator[str]:
    """Yield the table of coverages in percent."""
    yield f"| gain | variation mainly of | seeds | {' | '.join(TITLES)} |"
    yield f"|---|---|---:|{'---:|' * len(TITLES)}"
    weights = resample(IMAGES, RESAMPLES, seed=0)
    for seeds in SEEDS:
        for name, variation in VARIATIONS.items():
            generator = np.random.default_rng(0)
            studies_samples = [
                mean_gains(generator, seeds, variation, weights) for _ in range(studies)
            ]
            yield _line(f"mean of images | {name}", seeds, coverage(studies_samples, 0.0))
        for name, spread in SPREADS.items() if seeds <= MOST_SEEDS_OF_AP else ():
            generator = np.random.default_rng(0)
            studies_samples = [
                precision_gains(generator, seeds, spread, weights) for _ in range(studies)
            ]
            true = float(np.mean([samples[:, 0].mean() for samples in studies_samples]))
            yield _line(f"AP | {name}", seeds, coverage(studies_samples, true))


def cell_lines(studies: int) -> Iterator[str]:
    """Yield the coverage of joint intervals with the moderated error of a cell, as in tables."""
    yield f"| rows | seeds | variation mainly of | {' | '.join(KINDS)} |"
    yield f"|---:|---:|---|{'---:|' * len(KINDS)}"
    weights = resample(IMAGES, RESAMPLES, seed=0)
    for methods in (3, 10):
        for seeds in SEEDS:
            for name, variation in VARIATIONS.items():
                shares = (
                    cell_coverage(studies, methods, seeds, variation, kind, weights)
                    for kind in KINDS
                )
                cells = " | ".join(f"{100 * covered:.1f}" for covered in shares)
                yield f"| {methods} | {seeds} | {name} | {cells} |"


def cell_coverage(
    studies: int, methods: int, seeds: int, variation: Variation, kind: str, weights: Floats
) -> float:
    """Return the share of studies whose interval contains the first method's true gain of 0.

    Runs vary with seeds as ``studies.ERRORS[kind]``, and all rows share the test images.
    """
    generator = np.random.default_rng(0)
    design = CellDesign.of(range(seeds), {f"{row}": range(seeds) for row in range(methods)})
    # The variation is that of a gain, hence of two runs.
    of_run = Variation(*(value / np.sqrt(2) for value in variation))
    shape = (studies, methods + 1, seeds)
    samples, points = [], []
    for errors in of_run.seeds * row_errors(generator, shape, kind):
        rows = [
            error[:, None] + mean_gains(generator, seeds, of_run._replace(seeds=0), image_weights)
            for error, image_weights in zip(errors, _weights(weights, methods), strict=True)
        ]
        samples.append(rows[1] - rows[0])
        points.append(np.concatenate([row[:, 0] for row in rows]))
    deviations, df = moderated_errors(design, np.array(points) @ design.residuals.T)
    ends = map(joint_interval, samples, deviations[:, 0].tolist(), df[:, 0].tolist())
    return float(np.mean([interval.low <= 0 <= interval.high for interval in ends if interval]))


def _weights(weights: Floats, methods: int) -> list[Floats]:
    """Return the resamples of the baseline and the first method, and the split for the others."""
    return [weights, weights, *[weights[:, :1]] * (methods - 1)]


def _line(start: str, seeds: int, values: Floats) -> str:
    cells = " | ".join(f"{100 * value:.1f}" for value in values)
    return f"| {start} | {seeds} | {cells} |"
