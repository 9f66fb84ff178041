"""Images in figures: small, and with what is laid over them in its place."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.plotting.overlay import LONGEST, bar, lay, outline, show


@pytest.fixture
def axes():
    return Figure().subplots()


def test_a_large_image_is_reduced_and_keeps_its_pixels_as_units(axes):
    show(axes, np.zeros((800, 1600, 3)))
    (image,) = axes.images
    assert image.get_array().shape == (LONGEST // 2, LONGEST, 3)
    assert image.get_extent() == [-0.5, 1599.5, 799.5, -0.5]
    outline(axes, np.array([[100.0, 50, 300, 90]]), "red")
    (box,) = axes.patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((99.5, 49.5), 200, 40)


def test_grey_is_the_luminance(axes):
    show(axes, np.array([[[1.0, 0, 0], [0, 1, 0]]]), grey=True)
    (image,) = axes.images
    assert image.get_array()[0].tolist() == [[76] * 3, [150] * 3]


def test_cells_lie_where_their_stride_says_and_the_image_is_not_enlarged(axes):
    show(axes, np.zeros((30, 50, 3)))
    laid = lay(axes, np.ones((2, 3)), 0, 1, stride=20)
    assert laid.get_extent() == [-0.5, 59.5, 39.5, -0.5]
    assert axes.get_xlim() == (-0.5, 49.5) and axes.get_ylim() == (29.5, -0.5)
    whole = lay(axes, np.ones((2, 3)), 0, 1)
    assert whole.get_extent() == [-0.5, 49.5, 29.5, -0.5]


def test_colours_of_a_logarithm_end_where_the_scale_does(axes):
    show(axes, np.zeros((10, 30, 3)))
    laid = lay(axes, np.array([[0.0, 0.1, 10]]), 0.1, 10, log=True)
    assert laid.norm(laid.get_array()).tolist() == [[0, 0, 1]]
    assert bar(laid, axes, below=True).orientation == "horizontal"
