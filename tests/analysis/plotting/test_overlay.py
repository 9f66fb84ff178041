"""Images in figures: small, and with what is drawn_map over them in its place."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.plotting.overlay import (
    LONGEST_SIDE,
    draw_boxes,
    draw_map,
    draw_scale,
    show_image,
    show_region,
)


@pytest.fixture
def axes():
    return Figure().subplots()


def test_a_large_image_is_reduced_without_a_change_of_units(axes):
    show_image(axes, np.zeros((800, 1600, 3)))
    (image,) = axes.images
    assert image.get_array().shape == (LONGEST_SIDE // 2, LONGEST_SIDE, 3)
    assert image.get_extent() == [-0.5, 1599.5, 799.5, -0.5]
    draw_boxes(axes, np.array([[100.0, 50, 300, 90]]), "red")
    (box,) = axes.patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((99.5, 49.5), 200, 40)


def test_gray_is_the_lightened_luminance(axes):
    show_image(axes, np.array([[[1.0, 0, 0], [0, 1, 0]]]), gray=True)
    (image,) = axes.images
    assert image.get_array()[0].tolist() == [[166] * 3, [202] * 3]


def test_cells_cover_their_pixels_and_the_image_is_not_enlarged(axes):
    show_image(axes, np.zeros((30, 50, 3)))
    drawn_map = draw_map(axes, np.ones((2, 3)), 0, 1, stride=20)
    assert drawn_map.get_extent() == [-0.5, 59.5, 39.5, -0.5]
    assert axes.get_xlim() == (-0.5, 49.5) and axes.get_ylim() == (29.5, -0.5)
    whole = draw_map(axes, np.ones((2, 3)), 0, 1)
    assert whole.get_extent() == [-0.5, 49.5, 29.5, -0.5]


def test_colours_of_a_logarithm_end_where_the_scale_does(axes):
    show_image(axes, np.zeros((10, 30, 3)))
    drawn_map = draw_map(axes, np.array([[0.0, 0.1, 10]]), 0.1, 10, log=True)
    assert drawn_map.norm(drawn_map.get_array()).tolist() == [[0, 0, 1]]
    assert draw_scale(drawn_map, axes, below=True).orientation == "horizontal"


@pytest.mark.parametrize(
    ("region", "inside"),
    [([2, 1, 6, 4], 12), ([-3, -2, 5, 4], 20), ([8, 3, 14, 9], 6), ([-9, -9, 30, 30], 60)],
)
def test_a_region_is_in_its_place_and_gray_outside_of_the_image(axes, region, inside):
    show_region(axes, np.zeros((6, 10, 3)), np.array(region, float))
    (image,) = axes.images
    left, top, right, bottom = region
    assert image.get_extent() == [left - 0.5, right - 0.5, bottom - 0.5, top - 0.5]
    assert image.get_array().shape == (bottom - top, right - left, 3)
    assert (image.get_array()[..., 0] == 0).sum() == inside
    assert axes.get_xlim() == (left - 0.5, right - 0.5)
    assert axes.get_ylim() == (bottom - 0.5, top - 0.5)
