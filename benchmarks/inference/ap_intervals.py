"""Coverage of bootstrap intervals of AP over test images, on subsets of a large test split.

    python -m benchmarks.inference.ap_intervals RUN [BASELINE] --images 150 400 --subsets 100

RUN is evaluated on a large test split, whose AP counts as the true one. Each subset of it is a
test split of the usual size, from which an interval is computed. The coverage is the share of
subsets whose interval contains the true AP. With BASELINE the same is done for the gain of RUN.
Writes results/benchmarks/ap-intervals.csv, which docs/evidence has a copy of. For that, the test
split of `shapes-smoke` had 4,000 images (`generate: {train: 400, test: 4000, size: 128,
test_seed: 7}`), on which the runs of `snakemake --config study=demo detectors=retinanet
methods=rm` were predicted and evaluated again.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from analysis.matching.outcomes import Outcomes, read_matched_run
from analysis.statistics.bootstrap import percentile_interval, resample
from analysis.statistics.resampled import CONFIDENCE, class_precisions, precisions
from analysis.statistics.seeds import POINTS
from kd.common.progress import progress
from kd.config.library import Library

RESAMPLES = 300


def main() -> None:
    """Write the coverage of the intervals of the runs that the command names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("baseline", type=Path, nargs="?")
    parser.add_argument("--images", type=int, nargs="+", default=[150, 400])
    parser.add_argument("--subsets", type=int, default=100)
    options = parser.parse_args()
    runs = [run for run in (options.run, options.baseline) if run]
    matched = [read_matched_run(run, Library())[0] for run in runs]
    rows = []
    for images in options.images:
        rows += _rows(matched, images, options.subsets)
    path = Path("results/benchmarks/ap-intervals.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(path.read_text(encoding="utf-8"))


def _rows(matched: list[Any], images: int, subsets: int) -> list[dict[str, Any]]:
    """Return the coverage of each kind of interval of AP, of AP by class and of the gain."""
    total, classes = matched[0].images, matched[0].classes
    whole = np.ones((total, 1))
    truth = [_values(one.coco, whole, classes)[:, 0] for one in matched]
    truths = {"AP": truth[0][:1], "AP by class": truth[0][1:]}
    if len(matched) > 1:
        truths["gain"] = truth[0][:1] - truth[1][:1]
    hits: dict[tuple[str, str], list[Any]] = {}
    widths: dict[tuple[str, str], list[Any]] = {}
    means: dict[str, list[Any]] = {name: [] for name in truths}
    generator = np.random.default_rng(1)
    for number in progress(range(subsets), subsets, f"subsets of {images} images"):
        chosen_images = np.sort(generator.choice(total, images, replace=False))
        weights = resample(images, RESAMPLES, number)
        values = [
            _values(_subset(one.coco, chosen_images, total), weights, classes) for one in matched
        ]
        samples = {"AP": values[0][:1], "AP by class": values[0][1:]}
        if len(matched) > 1:
            samples["gain"] = values[0][:1] - values[1][:1]
        for name, rows in samples.items():
            means[name].append(np.nanmean(rows[:, 0]))
            for kind, row, true in _intervals(rows, truths[name]):
                hits.setdefault((name, kind), []).append(row[0] <= true <= row[1])
                widths.setdefault((name, kind), []).append(row[1] - row[0])
    return [
        {
            "quantity": name,
            "interval": kind,
            "test_images": images,
            "subsets": subsets,
            "true_points": round(float(truths[name].mean()), 3),
            "mean_points": round(float(np.mean(means[name])), 3),
            "coverage": round(float(np.mean(hits[name, kind])), 3),
            "mean_width_points": round(float(np.mean(widths[name, kind])), 3),
        }
        for name, kind in hits
    ]


def _values(outcomes: Outcomes, weights: Any, classes: int) -> Any:
    """Return (1 + K, R): AP in points, then that of each class."""
    mean_ap = precisions(outcomes, weights, classes).mean(axis=0, keepdims=True)
    return POINTS * np.vstack([mean_ap, class_precisions(outcomes, weights, classes)])


def _intervals(rows: Any, truths: Any) -> Iterator[tuple[str, tuple[float, float], float]]:
    for samples, true in zip(rows, truths, strict=True):
        low, high = percentile_interval(samples[None, 1:], CONFIDENCE)
        if np.isnan(low[0]):
            continue
        yield "percentile", (low[0], high[0]), true
        yield "basic", (2 * samples[0] - high[0], 2 * samples[0] - low[0]), true


def _subset(outcomes: Outcomes, chosen_images: Any, total: int) -> Outcomes:
    """Return the detections and objects of some images, which are numbered anew."""
    place = np.full(total, -1)
    place[chosen_images] = np.arange(len(chosen_images))
    detected, annotated = place[outcomes.image] >= 0, place[outcomes.object_image] >= 0
    return Outcomes(
        place[outcomes.image[detected]],
        outcomes.label[detected],
        outcomes.score[detected],
        outcomes.correct[:, detected],
        outcomes.ignored[:, detected],
        place[outcomes.object_image[annotated]],
        outcomes.object_label[annotated],
    )


if __name__ == "__main__":
    main()
