"""Names beside the rows of precision-recall curves by range of areas."""

from itertools import pairwise

import numpy as np
import pandas as pd

from analysis.figures.coco_errors.compute import CURVES, OVERALL
from analysis.figures.coco_errors.plot_curves import plot_areas


def test_names_of_neighboring_rows_are_apart():
    names = ["DeFeat (object)", "DeFeat (background)", "DeFeat (background, all levels)"]
    recall = np.linspace(0, 1, 101)
    place = {"category": OVERALL, "area": "all"}
    precision = dict.fromkeys(CURVES, 1 - recall)
    curves = [pd.DataFrame({"run": name, **place, "recall": recall, **precision}) for name in names]
    numbers = pd.DataFrame([{"run": name, **place, "objects": 3} for name in names])
    figure = plot_areas(pd.concat(curves), numbers, OVERALL)
    figure.draw_without_rendering()
    labels = [axes.yaxis.label for axes in figure.axes]
    assert [label.get_text().replace("\n", " ") for label in labels] == names
    for upper, lower in pairwise(label.get_window_extent() for label in labels):
        assert upper.y0 - lower.y1 > 0.05 * figure.dpi
