"""Tables of COCO's error breakdown: AP under progressively tolerant rules, and the curves.

The seven curves are those of the analysis in the COCO toolbox (``CocoEval.analyze``), in the form
of mmdet's ``tools/analysis_tools/coco_error_analysis.py`` (3.3.0). They are equal for every class
and area with an object. Without an object that tool has precision 0 (and 1 for BG without
detections) and includes it in the average; here it is NaN and left out of the average.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from analysis.matching.pairings import read_pairing
from analysis.matching.pr_curves import RECALLS, curves
from analysis.runs.groups import RunGroup
from kd.common.errors import UserError, suggest
from kd.evaluation.matching import (
    AREAS,
    Pairing,
    candidates,
    counted_objects,
    match,
)
from kd.evaluation.voc import Flags, Floats

CURVES = ("C75", "C50", "Loc", "Sim", "Oth", "BG", "FN")
C75, C50, LOC, SIM, OTH, BG, FN = range(len(CURVES))
PARTS = ("localization", "similar class", "other class", "background", "missed")
"""Losses of AP between one curve and the next, from C50 on."""
OVERALL = "all categories"
NO_SUPERCATEGORY = (None, "", "none")
"""Values that exporters write if a category has no supercategory."""


def similar(categories: Sequence[Mapping[str, Any]]) -> Flags | None:
    """Return (K, K), true for two different categories that share a supercategory.

    None if a category has no supercategory.
    """
    names = [category.get("supercategory") for category in categories]
    if any(name in NO_SUPERCATEGORY for name in names):
        return None
    group = np.array(names, dtype=str)
    return (group[:, None] == group) & ~np.eye(len(group), dtype=bool)


def breakdown(pairing: Pairing, alike: Flags | None, areas: Sequence[str]) -> Floats:
    """Return (7, A, K, 101): precision at each recall, by curve, area and class.

    ``alike`` is the result of ``similar``. Classes without an object are NaN, and so is Sim without
    ``alike``.
    """
    same, different = pairing.candidates, ~np.eye(len(pairing.classes), dtype=bool)
    rules = {C75: (0.75, same), C50: (0.5, same), LOC: (0.1, same)}
    rules[OTH] = (0.1, candidates(pairing, different))
    if alike is not None:
        rules[SIM] = (0.1, candidates(pairing, alike))
    shape = (len(CURVES), len(areas), len(pairing.classes), len(RECALLS))
    precision = np.full(shape, np.nan)
    for index, area in enumerate(areas):
        for curve, (iou, pairs) in rules.items():
            precision[curve, index] = curves(pairing, match(pairing, iou, AREAS[area], pairs))
    defined = ~np.isnan(precision[OTH])
    precision[BG][defined] = precision[OTH][defined] > 0
    precision[FN][defined] = 1
    return precision


def compute_tables(
    groups: Sequence[RunGroup],
    truth: Mapping[str, Any],
    areas: Sequence[str],
    categories: Sequence[str],
) -> dict[str, pd.DataFrame]:
    """Return the numbers of every run, and the curves of every group, averaged over its seeds.

    Numbers: run, seed, area, category, objects, the AP of the seven curves and the ``PARTS``, in AP
    points, of every category and of all. Curves: run, area, category, recall and the seven
    precisions (0 to 1), of all categories together and of each in ``categories``.
    """
    alike = similar(truth["categories"])
    names = [category["name"] for category in truth["categories"]]
    numbers, curve_frames = [], []
    for group in groups:
        precisions = []
        for seed, directory in group.runs.items():
            pairing = read_pairing(directory, truth)
            precisions.append(with_mean(breakdown(pairing, alike, areas)))
            counts = count_objects(pairing, areas)
            frame = summary(precisions[-1], counts, [OVERALL, *names], areas)
            numbers.append(frame.assign(run=group.label, seed=seed))
        columns = [0, *(names.index(name) + 1 for name in categories)]
        mean = np.mean(precisions, axis=0)[:, :, columns]
        lines = curve_lines(mean, [OVERALL, *categories], areas)
        curve_frames.append(lines.assign(run=group.label))
    return {
        "coco_errors": _with_first(pd.concat(numbers), "run", "seed"),
        "coco_errors-curves": _with_first(pd.concat(curve_frames), "run"),
    }


def with_mean(precision: Floats) -> Floats:
    """Return (7, A, 1 + K, 101): before the classes, the mean over those that are defined."""
    defined = ~np.isnan(precision)
    count = defined.sum(axis=2, keepdims=True)
    total = np.where(defined, precision, 0).sum(axis=2, keepdims=True)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return np.concatenate([mean, precision], axis=2)


def count_objects(pairing: Pairing, areas: Sequence[str]) -> Floats:
    """Return (A, 1 + K): the number of objects that count, of all classes and of each."""
    rows = []
    for area in areas:
        labels = pairing.objects.label[counted_objects(pairing.objects, AREAS[area])]
        counts = np.bincount(labels, minlength=len(pairing.classes))
        rows.append(np.concatenate([[len(labels)], counts]))
    return np.array(rows)


def summary(
    precision: Floats, counts: Floats, categories: Sequence[str], areas: Sequence[str]
) -> pd.DataFrame:
    """Return a line for each category and area: objects, AP of each curve, and the parts."""
    ap = 100 * precision.mean(axis=-1)
    index = pd.MultiIndex.from_product([areas, categories], names=["area", "category"])
    values = ap.reshape(len(CURVES), -1).T
    frame = pd.DataFrame(values, index, list(CURVES)).reset_index()
    frame.insert(2, "objects", counts.ravel())
    sim = frame["Sim"].fillna(frame["Loc"])
    steps = [frame["C50"], frame["Loc"], sim, frame["Oth"], frame["BG"], frame["FN"]]
    for part, (lower, upper) in zip(PARTS, pairwise(steps), strict=True):
        frame[part] = upper - lower
    frame.loc[frame["Sim"].isna(), "similar class"] = np.nan
    return frame


def curve_lines(precision: Floats, categories: Sequence[str], areas: Sequence[str]) -> pd.DataFrame:
    """Return a line for each category, area and recall: precision of each curve."""
    index = pd.MultiIndex.from_product(
        [areas, categories, RECALLS], names=["area", "category", "recall"]
    )
    return pd.DataFrame(precision.reshape(len(CURVES), -1).T, index, list(CURVES)).reset_index()


def _with_first(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the frame with some columns before all others."""
    return frame.set_index(list(columns)).reset_index()


def seed_means(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers averaged over seeds."""
    keys = ["run", "area", "category"]
    return numbers.drop(columns="seed").groupby(keys, sort=False).mean().reset_index()


def first_category(curves: pd.DataFrame) -> str:
    """Return the first single category of the table of curves, or that of all categories."""
    return next((name for name in curves["category"].unique() if name != OVERALL), OVERALL)


def drawn_categories(
    requested: Sequence[str], truth: Mapping[str, Any], stand_in: int | None
) -> dict[str, str]:
    """Return the category that is drawn for each requested one, by the requested name.

    A category that the data lack is replaced by the one with the ``stand_in``-th most objects, the
    next such category by the following one; at the end of the order it begins again. Of equally
    frequent ones the first in the data comes first. UserError for an absent category without
    ``stand_in``.
    """
    names = {category["id"]: category["name"] for category in truth["categories"]}
    counts = Counter(item["category_id"] for item in truth["annotations"])
    by_frequency = sorted(names, key=lambda category: -counts[category])
    names_drawn: dict[str, str] = {}
    rank = stand_in
    for name in requested:
        if name in names.values():
            names_drawn[name] = name
        elif rank is None:
            raise UserError(
                f"categories: no category '{name}'; {suggest(name, list(names.values()))}, or set "
                "stand_in to draw the most frequent categories instead"
            )
        else:
            names_drawn[name] = names[by_frequency[(rank - 1) % len(by_frequency)]]
            rank += 1
    return names_drawn


def defined_parts(frame: pd.DataFrame) -> list[str]:
    """Return the parts that are defined in the numbers or the curves."""
    return [part for part in PARTS if part != "similar class" or frame["Sim"].notna().any()]
