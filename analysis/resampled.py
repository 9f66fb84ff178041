"""Means over images, with the interval that resampled images give."""

import numpy as np
import pandas as pd

from analysis.bootstrap import interval
from kd.voc_map import Floats

RESAMPLES, CONFIDENCE = 1000, 0.95


def mean(values: pd.Series, image: pd.Series, weights: Floats) -> tuple[float, float, float]:
    """Return the mean of those of ``values`` that are defined, and a bootstrap interval of it.

    ``image``: (n,) the image of each, from 0; ``weights``: of ``analysis.bootstrap.resample``. NaN
    where nothing is defined, and no interval with fewer than two images.
    """
    defined, images = values.notna(), len(weights)
    sums = np.bincount(image[defined], values[defined], images) @ weights
    counts = np.bincount(image[defined], minlength=images) @ weights
    with np.errstate(invalid="ignore"):
        means = sums / counts
    low, high = interval(means[None, 1:] if images > 1 else np.empty((1, 0)), CONFIDENCE)
    return float(means[0]), float(low[0]), float(high[0])
