"""Alternative text of the confusion matrices."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.figures.confusion.compute import largest
from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names
from kd.evaluation.voc import Integers


def alt_texts(matrices: Mapping[str, Integers], names: Sequence[str]) -> dict[str, str]:
    """Return the alternative text of the picture."""
    right = pd.Series({run: _share(np.diag(c)[:-1], c) for run, c in matrices.items()})
    missed = pd.Series({run: _share(c[:-1, -1], c) for run, c in matrices.items()})
    confusions = "; ".join(f"{run} {largest(counts, names)}" for run, counts in matrices.items())
    return {
        "confusion": (
            "Heat maps of the share of the objects of each class that detections of each class "
            f"match, with a panel for each of {enumerate_names(list(matrices))}. In per cent of "
            f"all objects, those with a detection of their class are {extremes(right)}; missed "
            f"ones are {extremes(missed)}. The largest confusion of two classes: {confusions}."
        )
    }


def _share(part: Integers, counts: Integers) -> float:
    """Return the sum of ``part`` in per cent of all objects; NaN without objects."""
    objects = counts[:-1].sum()
    return float(100 * part.sum() / objects) if objects else float("nan")
