"""Tables of calibration: both errors of each run, and the bins of its diagram."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.matching.pairings import read_pairing
from analysis.runs.groups import RunGroup
from analysis.statistics.seeds import POINTS
from kd.evaluation.calibration import (
    detection_ece,
    localization_bins,
    localization_ece,
    precision_bins,
)
from kd.evaluation.matching import Matches, Pairing, match


def compute_tables(
    groups: Sequence[RunGroup], truth: Mapping[str, Any], iou: float, bins: int
) -> dict[str, pd.DataFrame]:
    """Return the errors of each run, and the bins of each group."""
    errors, sums = [], []
    for group in groups:
        totals = np.zeros((4, bins))
        for seed, directory in group.runs.items():
            pairing = read_pairing(directory, truth, least_overlap=0.0)
            matches = match(pairing, iou)
            errors.append({"run": group.label, "seed": seed, **_errors(pairing, matches)})
            totals += _sums(pairing, matches, bins)
        sums.append(_bins(group.label, totals))
    return {
        "calibration": pd.DataFrame(errors),
        "calibration-bins": pd.concat(sums, ignore_index=True),
    }


def _errors(pairing: Pairing, matches: Matches) -> dict[str, Any]:
    """Return both errors in points; NaN without detections."""
    errors = {
        "D-ECE": detection_ece(pairing, matches),
        "LaECE": localization_ece(pairing, matches),
    }
    points = {name: np.nan if error is None else POINTS * error for name, error in errors.items()}
    return {"detections": int((~matches.ignored).sum()), **points}


def _sums(pairing: Pairing, matches: Matches, bins: int) -> np.ndarray:
    """Return (4, bins): sums of 1, confidence, true positives and their IoUs over detections."""
    precision = precision_bins(pairing, matches, bins)
    localization = localization_bins(pairing, matches, bins)
    return np.stack(
        [
            precision.count[0],
            precision.confidence[0],
            precision.target[0],
            localization.target.sum(axis=0),
        ]
    )


def _bins(run: str, totals: np.ndarray) -> pd.DataFrame:
    """Return the bins of a diagram; means of an empty bin are NaN."""
    count, bins = totals[0], totals.shape[1]
    confidence, precision, localization = np.where(
        count > 0, totals[1:] / np.maximum(count, 1), np.nan
    )
    return pd.DataFrame(
        {
            "run": run,
            "low": np.arange(bins) / bins,
            "high": np.arange(1, bins + 1) / bins,
            "count": count.astype(int),
            "confidence": confidence,
            "precision": precision,
            "precision_iou": localization,
        }
    )


def means(errors: pd.DataFrame) -> pd.DataFrame:
    """Return the means of the columns over the seeds of each run, in the order of the runs."""
    return errors.drop(columns="seed").groupby("run", sort=False).mean()


def gaps(bins: pd.DataFrame) -> pd.Series:
    """Return mean confidence less precision over all detections of each run, in points."""
    weighted = bins["count"] * (bins["confidence"] - bins["precision"])
    sums = weighted.groupby(bins["run"], sort=False).sum()
    return POINTS * sums / bins.groupby("run", sort=False)["count"].sum().replace(0, np.nan)
