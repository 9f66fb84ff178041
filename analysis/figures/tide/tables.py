"""TIDE of runs as tables: what each error costs, how often it is made, and how runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.figures.tide.compute import ERRORS, MAIN, THRESHOLDS, errors, survey
from analysis.matching.matching import read_pairing
from analysis.runs.groups import RunGroup
from analysis.statistics.bootstrap import percentile_interval
from kd.common.errors import UserError, suggest
from kd.evaluation.voc import Floats, Integers

QUANTITIES = ("AP", *ERRORS)
IOU50, AVERAGED = "0.50", "0.50:0.95"
AUTO = "auto"


class Run(NamedTuple):
    """The errors of one run at the ten IoU thresholds, images weighted in R ways."""

    label: str
    seed: int
    values: Floats
    """(10, 9, R) AP points, by ``THRESHOLDS`` and ``QUANTITIES``."""
    counts: Integers
    """(10, 8, K)."""
    class_ap: Floats
    """(K,) AP at IoU 0.5; NaN for a class without objects."""
    objects: Integers
    """(K,)."""


def measure(
    groups: Sequence[RunGroup], truth: Mapping[str, Any], weights: Floats, background: float
) -> list[Run]:
    """Return the errors of every run of the groups on the split that ``truth`` describes."""
    found = []
    for group in groups:
        for seed, directory in group.runs.items():
            scene = survey(read_pairing(directory, truth), background)
            listed = [errors(scene, iou, weights) for iou in THRESHOLDS]
            values = np.array([np.vstack([each.ap, each.gains]) for each in listed])
            counts = np.array([each.counts for each in listed])
            objects = np.bincount(scene.object_label[scene.counted], minlength=scene.classes)
            found.append(Run(group.label, seed, values, counts, listed[0].by_class, objects))
    return found


def baseline_of(groups: Sequence[RunGroup], wanted: str | None) -> str | None:
    """Return the label that the others are compared with, or None where nothing is.

    ``auto``: the first student trained alone, else the first of all. UserError where no group
    has the label ``wanted``.
    """
    labels = [group.label for group in groups]
    if wanted == AUTO:
        alone = [group.label for group in groups if group.role == "baseline"]
        return (alone or labels)[0]
    if wanted is not None and wanted not in labels:
        raise UserError(f"baseline: none of the runs is '{wanted}'; {suggest(wanted, labels)}")
    return wanted


def summary(runs: Sequence[Run]) -> pd.DataFrame:
    """Return AP and what each error costs and how often it is made, at IoU 0.5 and averaged."""
    rows = []
    for run in runs:
        pairs = [(IOU50, run.values[0], run.counts[0]), (AVERAGED, *_averaged(run))]
        rows += [
            {"run": run.label, "seed": run.seed, "iou": iou, **row}
            for iou, values, counts in pairs
            for row in _rows(values, counts)
        ]
    return pd.DataFrame(rows)


def by_threshold(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the same at each of the ten thresholds."""
    rows = [
        {"run": run.label, "seed": run.seed, "iou": iou, **row}
        for run in runs
        for iou, values, counts in zip(THRESHOLDS, run.values, run.counts, strict=True)
        for row in _rows(values, counts)
    ]
    return pd.DataFrame(rows)


def _averaged(run: Run) -> tuple[Floats, Floats]:
    return run.values.mean(axis=0), run.counts.mean(axis=0)


def _rows(values: Floats, counts: Any) -> list[dict[str, Any]]:
    """``values`` (9, R) in AP points, ``counts`` (8, K); AP itself has no count."""
    counted = [np.nan, *counts.sum(axis=1)]
    return [
        {"quantity": name, "points": points, "count": count}
        for name, points, count in zip(QUANTITIES, values[:, 0], counted, strict=True)
    ]


def by_class(runs: Sequence[Run], classes: Sequence[str]) -> pd.DataFrame:
    """Return objects, AP at IoU 0.5 and the number of errors of each class.

    A wrong detection counts for the class that it names, a missed object for its own.
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


def differences(runs: Sequence[Run], baseline: str | None, confidence: float) -> pd.DataFrame:
    """Return each row's means over its seeds, less those of the baseline, with intervals.

    The first weights of the images are one each, the others a resample's; ``low`` and ``high``
    bound the middle ``confidence`` of the resamples' differences.
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
        for iou, each in ((IOU50, gap[0]), (AVERAGED, gap.mean(axis=0))):
            ends = percentile_interval(each[:, 1:], confidence)
            for name, *numbers in zip(QUANTITIES, each[:, 0], *ends, strict=True):
                rows.append([label, baseline, iou, name, *numbers])
    return pd.DataFrame(rows, columns=columns)


def costliest(frame: pd.DataFrame) -> str:
    """Return a sentence on the main error that costs each run most at IoU 0.5."""
    rows = frame[(frame["iou"] == IOU50) & frame["quantity"].isin(MAIN)]
    points = rows.groupby(["run", "quantity"], sort=False)["points"].mean().unstack()
    listed = [
        f"{run} {costs.idxmax()} ({costs.max():.1f})" if costs.max() > 0 else f"{run} none"
        for run, costs in points.iterrows()
    ]
    return f"The costliest error of each at IoU 0.50 (AP points): {', '.join(listed)}."


def certain(gaps: pd.DataFrame) -> str:
    """Return a sentence on the differences at IoU 0.5 whose interval leaves out zero."""
    rows = gaps[(gaps["iou"] == IOU50) & (gaps["quantity"] != "AP")]
    sure = rows[(rows["low"] > 0) | (rows["high"] < 0)]
    listed = [
        f"{run} {', '.join(f'{row.quantity} {row.difference:+.1f}' for row in own.itertuples())}"
        for run, own in sure.groupby("run", sort=False)
    ]
    found = "; ".join(listed) or "none"
    return f"Differences at IoU 0.50 whose interval leaves out zero: {found}."
