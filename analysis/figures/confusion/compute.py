"""Confusion matrices of runs, their table, and the classes that a picture shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.matching.confusion import confusion_matrix
from analysis.matching.pairings import read_pairing
from analysis.runs.groups import RunGroup
from kd.evaluation.lrp import SCORE, optimal_lrp
from kd.evaluation.matching import match
from kd.evaluation.voc import Floats, Integers

BACKGROUND, OTHERS = "background", "other classes"
PERCENT = 100


def compute_matrices(
    groups: Sequence[RunGroup], truth: Mapping[str, Any], iou: float, score: float | None
) -> dict[str, Integers]:
    """Return the (K + 1, K + 1) counts of each group, summed over its seeds.

    Without a ``score`` each class of each run has the threshold with the lowest LRP at ``iou``.
    """
    matrices = {}
    for group in groups:
        counts = []
        for directory in group.runs.values():
            pairing = read_pairing(directory, truth)
            if score is None:
                limit = min(iou, 1 - 1e-6)  # LRP divides by 1 - iou
                least = optimal_lrp(pairing, match(pairing, iou), limit)[SCORE, :, 0]
            else:
                least = np.full(len(pairing.classes), score)
            counts.append(confusion_matrix(pairing, iou, least))
        matrices[group.label] = np.sum(counts, axis=0)
    return matrices


def shares(counts: Integers) -> Floats:
    """Return each row in per cent of its sum; NaN for an empty row."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, PERCENT * counts / np.maximum(totals, 1), np.nan)


def to_table(matrices: Mapping[str, Integers], names: Sequence[str]) -> pd.DataFrame:
    """Return a line for each pair of classes with a count, by run."""
    labels = np.array([*names, BACKGROUND])
    frames = []
    for run, counts in matrices.items():
        rows, columns = np.nonzero(counts)
        columns_of_table = {
            "run": run,
            "object": labels[rows],
            "detection": labels[columns],
            "count": counts[rows, columns],
            "share": shares(counts)[rows, columns],
        }
        frames.append(pd.DataFrame(columns_of_table))
    return pd.concat(frames, ignore_index=True)


def between_classes(counts: Integers) -> Integers:
    """Return (K, K): the counts of two different classes, without the background."""
    confused = counts[:-1, :-1].copy()
    np.fill_diagonal(confused, 0)
    return confused


def largest(counts: Integers, names: Sequence[str]) -> str:
    """Return the classes with the largest share of objects that another class matches."""
    confused = np.where(between_classes(counts) > 0, shares(counts)[:-1, :-1], 0.0)
    if not confused.any():
        return "none"
    row, column = divmod(int(np.argmax(confused)), len(names))
    return f"{names[row]} as {names[column]} ({confused[row, column]:.0f})"


def reduced(
    matrices: Mapping[str, Integers], names: Sequence[str], most: int
) -> tuple[dict[str, Integers], list[str]]:
    """Return matrices of at most ``most`` classes and the names of their rows.

    Classes of the pairs with the highest counts, over all runs, are unchanged, in the order of
    ``names``. The others are added up in one row and column, before the background.
    """
    if len(names) <= most:
        return dict(matrices), [*names, BACKGROUND]
    confused = sum(between_classes(counts) for counts in matrices.values())
    order = np.argsort(-np.asarray(confused), axis=None, kind="stable")
    pairs = np.stack(np.unravel_index(order, (len(names), len(names))), axis=1)
    labels = sorted(list(dict.fromkeys(pairs.ravel().tolist()))[:most])
    target = np.full(len(names) + 1, most)
    target[labels] = np.arange(most)
    target[-1] = most + 1
    smaller = {}
    for run, counts in matrices.items():
        rows, columns = np.nonzero(counts)
        smaller[run] = np.zeros((most + 2, most + 2), dtype=np.int64)
        np.add.at(smaller[run], (target[rows], target[columns]), counts[rows, columns])
    return smaller, [*(names[label] for label in labels), OTHERS, BACKGROUND]
