"""Tables of TIDE: cost and number of each error, and differences between runs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.figures.tide.errors import ERRORS, MAIN, THRESHOLDS, measure_errors, overlaps_of
from analysis.matching.pairings import read_pairing
from analysis.runs.groups import RunGroup
from analysis.statistics.bootstrap import percentile_interval
from kd.common.errors import UserError, suggest
from kd.evaluation.voc import Floats, Integers

QUANTITIES = ("AP", *ERRORS)
IOU50, AVERAGED = "0.50", "0.50:0.95"
AUTO = "auto"


class RunErrors(NamedTuple):
    """Errors of one run at the ten IoU thresholds, with R weightings of the images."""

    label: str
    seed: int
    values: Floats
    """(10, 9, R): AP points, by ``THRESHOLDS`` and ``QUANTITIES``."""
    counts: Integers
    """(10, 8, K): numbers of errors, by threshold, error and class."""
    class_ap: Floats
    """(K,): AP at IoU 0.5; NaN for a class without objects."""
    objects: Integers
    """(K,): numbers of objects."""


def compute_tables(
    groups: Sequence[RunGroup],
    truth: Mapping[str, Any],
    weights: Floats,
    background: float,
    baseline: str | None,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """Return the errors of all runs: costs, differences to the baseline, by class, by threshold.

    ``weights`` (I, R) are those of ``bootstrap.resample``; the intervals need several.
    """
    runs = measure_runs(groups, truth, weights, background)
    return {
        "tide": summary(runs),
        "tide-differences": differences(runs, baseline, confidence),
        "tide-by-class": by_class(runs, [category["name"] for category in truth["categories"]]),
        "tide-thresholds": by_threshold(runs),
    }


def measure_runs(
    groups: Sequence[RunGroup], truth: Mapping[str, Any], weights: Floats, background: float
) -> list[RunErrors]:
    """Return the errors of every run of the groups on the split that ``truth`` describes."""
    runs = []
    for group in groups:
        for seed, directory in group.runs.items():
            overlaps = overlaps_of(read_pairing(directory, truth), background)
            by_iou = [measure_errors(overlaps, iou, weights) for iou in THRESHOLDS]
            values = np.array([np.vstack([errors.ap, errors.gains]) for errors in by_iou])
            counts = np.array([errors.counts for errors in by_iou])
            labels = overlaps.object_label[overlaps.is_counted]
            objects = np.bincount(labels, minlength=overlaps.classes)
            runs.append(RunErrors(group.label, seed, values, counts, by_iou[0].by_class, objects))
    return runs


def select_baseline(groups: Sequence[RunGroup], name: str | None) -> str | None:
    """Return the label that the others are compared with, or None for no comparison.

    The name ``auto`` is the first student trained alone, or else the first group. UserError if no
    group has the label ``name``.
    """
    labels = [group.label for group in groups]
    if name == AUTO:
        alone = [group.label for group in groups if group.role == "baseline"]
        return (alone or labels)[0]
    if name is not None and name not in labels:
        raise UserError(f"baseline: none of the runs is '{name}'; {suggest(name, labels)}")
    return name


def summary(runs: Sequence[RunErrors]) -> pd.DataFrame:
    """Return AP, and the cost and number of each error, at IoU 0.5 and averaged."""
    rows = []
    for run in runs:
        averages = run.values.mean(axis=0), run.counts.mean(axis=0)
        for iou, values, counts in (
            (IOU50, run.values[0], run.counts[0]),
            (AVERAGED, *averages),
        ):
            rows += [
                {"run": run.label, "seed": run.seed, "iou": iou, **row}
                for row in _rows(values, counts)
            ]
    return pd.DataFrame(rows)


def by_threshold(runs: Sequence[RunErrors]) -> pd.DataFrame:
    """Return AP, and the cost and number of each error, at each of the ten thresholds."""
    rows = [
        {"run": run.label, "seed": run.seed, "iou": iou, **row}
        for run in runs
        for iou, values, counts in zip(THRESHOLDS, run.values, run.counts, strict=True)
        for row in _rows(values, counts)
    ]
    return pd.DataFrame(rows)


def _rows(values: Floats, counts: Any) -> list[dict[str, Any]]:
    """Return a row for each quantity, of ``values`` (9, R) in AP points and ``counts`` (8, K).

    AP itself has no count.
    """
    totals = [np.nan, *counts.sum(axis=1)]
    return [
        {"quantity": name, "points": points, "count": count}
        for name, points, count in zip(QUANTITIES, values[:, 0], totals, strict=True)
    ]


def by_class(runs: Sequence[RunErrors], classes: Sequence[str]) -> pd.DataFrame:
    """Return the number of objects, AP at IoU 0.5 and the number of errors of each class.

    A wrong detection counts for the class that it predicts, and a missed object for its class.
    """
    rows = [
        {"run": run.label, "seed": run.seed, "class": name, "objects": objects, "AP50": ap}
        | dict(zip(ERRORS, counts, strict=True))
        for run in runs
        for name, objects, ap, counts in zip(
            classes, run.objects, run.class_ap, run.counts[0].T, strict=True
        )
    ]
    return pd.DataFrame(rows)


def differences(runs: Sequence[RunErrors], baseline: str | None, confidence: float) -> pd.DataFrame:
    """Return each row's means over its seeds, less those of the baseline, with intervals.

    The first weighting has each image once, the others are resamples. ``low`` and ``high`` bound
    the middle ``confidence`` of the resamples' differences.
    """
    columns = ["run", "baseline", "iou", "quantity", "difference", "low", "high"]
    labels = list(dict.fromkeys(run.label for run in runs))
    means = {
        label: np.mean([run.values for run in runs if run.label == label], axis=0)
        for label in labels
        if baseline is not None
    }
    rows = []
    for label, values in means.items():
        if label == baseline:
            continue
        gap = values - means[str(baseline)]
        for iou, gap_at_iou in ((IOU50, gap[0]), (AVERAGED, gap.mean(axis=0))):
            ends = percentile_interval(gap_at_iou[:, 1:], confidence)
            for name, *numbers in zip(QUANTITIES, gap_at_iou[:, 0], *ends, strict=True):
                rows.append([label, baseline, iou, name, *numbers])
    return pd.DataFrame(rows, columns=columns)


def mean_points(frame: pd.DataFrame, iou: str) -> pd.DataFrame:
    """Return AP points by run and quantity at one ``iou`` of the summary, means over the seeds."""
    rows = frame[frame["iou"] == iou]
    table = rows.pivot_table("points", "run", "quantity", aggfunc="mean", sort=False)
    return table.reindex(columns=["AP", *ERRORS])


def costliest_errors(frame: pd.DataFrame) -> str:
    """Return a sentence with the main error that costs each run most at IoU 0.5."""
    rows = frame[(frame["iou"] == IOU50) & frame["quantity"].isin(MAIN)]
    points = rows.groupby(["run", "quantity"], sort=False)["points"].mean().unstack()
    errors = [
        f"{run} {costs.idxmax()} ({costs.max():.1f})" if costs.max() > 0 else f"{run} none"
        for run, costs in points.iterrows()
    ]
    return f"The main error with the largest dAP at IoU 0.50: {', '.join(errors)}."


def nonzero_differences(frame: pd.DataFrame) -> str:
    """Return a sentence with the differences at IoU 0.5 whose interval does not contain zero."""
    rows = frame[(frame["iou"] == IOU50) & (frame["quantity"] != "AP")]
    nonzero = rows[(rows["low"] > 0) | (rows["high"] < 0)]
    runs = [
        f"{run} {', '.join(f'{row.quantity} {row.difference:+.1f}' for row in lines.itertuples())}"
        for run, lines in nonzero.groupby("run", sort=False)
    ]
    listing = "; ".join(runs) or "none"
    return f"Differences at IoU 0.50 whose interval does not contain zero: {listing}."
