"""COCO's breakdown of what keeps average precision from 1, for runs of detectors.

The seven curves are those of the analysis that came with the COCO toolbox (``CocoEval.analyze``),
in the form of mmdet's ``tools/analysis_tools/coco_error_analysis.py`` (3.3.0), and equal to it
wherever there is something to find. Where there is not, that tool has precision 0 (and 1 for BG
of nothing), and averages that in; here such a class and area is NaN and left out of the average.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from analysis.matching.matching import AREAS, Pairing, candidates, match, read_pairing, to_find
from analysis.matching.pr_curves import RECALLS, curves
from analysis.runs.groups import RunGroup
from kd.evaluation.voc import Flags, Floats

CURVES = ("C75", "C50", "Loc", "Sim", "Oth", "BG", "FN")
C75, C50, LOC, SIM, OTH, BG, FN = range(len(CURVES))
PARTS = ("localization", "similar class", "other class", "background", "missed")
"""What is lost between one curve and the next, from C50 on."""
OVERALL = "all categories"
NOTHING = (None, "", "none")
"""What exporters write where a category has no supercategory."""


def similar(categories: Sequence[Mapping[str, Any]]) -> Flags | None:
    """Return (K, K): whether two categories share a supercategory, a category itself left out.

    None where a category has none.
    """
    names = [category.get("supercategory") for category in categories]
    if any(name in NOTHING for name in names):
        return None
    group = np.array(names, dtype=str)
    return (group[:, None] == group) & ~np.eye(len(group), dtype=bool)


def breakdown(pairing: Pairing, alike: Flags | None, areas: Sequence[str]) -> Floats:
    """Return (7, A, K, 101): precision at each recall, by curve, area and class.

    ``alike`` is of ``similar``. NaN where a class has nothing to find, and Sim without ``alike``.
    """
    own, different = pairing.candidates, ~np.eye(len(pairing.classes), dtype=bool)
    rules = {C75: (0.75, own), C50: (0.5, own), LOC: (0.1, own)}
    rules[OTH] = (0.1, candidates(pairing, different))
    if alike is not None:
        rules[SIM] = (0.1, candidates(pairing, alike))
    shape = (len(CURVES), len(areas), len(pairing.classes), len(RECALLS))
    found = np.full(shape, np.nan)
    for index, area in enumerate(areas):
        for curve, (iou, listed) in rules.items():
            found[curve, index] = curves(pairing, match(pairing, iou, AREAS[area], listed))
    defined = ~np.isnan(found[OTH])
    found[BG][defined] = found[OTH][defined] > 0
    found[FN][defined] = 1
    return found


def read(
    groups: Sequence[RunGroup],
    truth: Mapping[str, Any],
    areas: Sequence[str],
    categories: Sequence[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the numbers of every run, and the curves of every group, its seeds averaged.

    Numbers: run, seed, area, category, objects, the seven curves' AP and the ``PARTS``, in AP
    points, of every category and of all. Curves: run, area, category, recall and the seven
    precisions (0 to 1), of all categories together and of ``categories``.
    """
    alike, names = similar(truth["categories"]), [each["name"] for each in truth["categories"]]
    numbers, drawn = [], []
    for group in groups:
        found = []
        for seed, directory in group.runs.items():
            pairing = read_pairing(directory, truth)
            found.append(with_mean(breakdown(pairing, alike, areas)))
            frame = summary(found[-1], objects(pairing, areas), [OVERALL, *names], areas)
            numbers.append(frame.assign(run=group.label, seed=seed))
        chosen = [0, *(names.index(name) + 1 for name in categories)]
        mean = np.mean(found, axis=0)[:, :, chosen]
        drawn.append(listed(mean, [OVERALL, *categories], areas).assign(run=group.label))
    return _leading(pd.concat(numbers), "run", "seed"), _leading(pd.concat(drawn), "run")


def with_mean(found: Floats) -> Floats:
    """Return (7, A, 1 + K, 101): before the classes, their mean where something is to be found."""
    defined = ~np.isnan(found)
    count = defined.sum(axis=2, keepdims=True)
    total = np.where(defined, found, 0).sum(axis=2, keepdims=True)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return np.concatenate([mean, found], axis=2)


def objects(pairing: Pairing, areas: Sequence[str]) -> Floats:
    """Return (A, 1 + K): how many objects are to be found, of all classes and of each."""
    rows = []
    for area in areas:
        labels = pairing.objects.label[to_find(pairing.objects, AREAS[area])]
        counts = np.bincount(labels, minlength=len(pairing.classes))
        rows.append(np.concatenate([[len(labels)], counts]))
    return np.array(rows)


def summary(
    found: Floats, counts: Floats, categories: Sequence[str], areas: Sequence[str]
) -> pd.DataFrame:
    """Return a line for each category and area: objects, AP of each curve, and the parts."""
    ap = 100 * found.mean(axis=-1)
    index = pd.MultiIndex.from_product([areas, categories], names=["area", "category"])
    values = ap.reshape(len(CURVES), -1).T
    frame = pd.DataFrame(values, index, list(CURVES)).reset_index()
    frame.insert(2, "objects", counts.ravel())
    known = frame["Sim"].fillna(frame["Loc"])
    steps = [frame["C50"], frame["Loc"], known, frame["Oth"], frame["BG"], frame["FN"]]
    for part, (lower, upper) in zip(PARTS, pairwise(steps), strict=True):
        frame[part] = upper - lower
    frame.loc[frame["Sim"].isna(), "similar class"] = np.nan
    return frame


def listed(found: Floats, categories: Sequence[str], areas: Sequence[str]) -> pd.DataFrame:
    """Return a line for each category, area and recall: precision of each curve."""
    index = pd.MultiIndex.from_product(
        [areas, categories, RECALLS], names=["area", "category", "recall"]
    )
    return pd.DataFrame(found.reshape(len(CURVES), -1).T, index, list(CURVES)).reset_index()


def _leading(frame: pd.DataFrame, *first: str) -> pd.DataFrame:
    return frame.set_index(list(first)).reset_index()
