"""Pictures of detections: boxes at their place, labels inside, names of any script and length."""

import numpy as np
import pytest

from kd.inference.detector import ImageDetections
from kd.inference.labels import fitting_label, measured
from kd.inference.pictures import CASING, color_of, draw, enlargement

NAMES = ["cell", "木材", "שלום", "a" * 300, "two\nlines", "", "😀"]


def detections(*boxes, labels=None, scores=None):
    count = len(boxes)
    return ImageDetections(
        np.array(boxes, float).reshape(-1, 4),
        np.array([0.9] * count if scores is None else scores),
        np.array([0] * count if labels is None else labels, dtype=int),
    )


def test_a_box_is_drawn_on_its_pixels():
    image = np.full((700, 700, 3), 255, np.uint8)
    pixels = np.asarray(draw(image, detections([100, 200, 300, 400]), NAMES, 0.3))
    assert pixels.shape == image.shape
    assert (pixels[300, 100] == color_of(0)).all() and (pixels[300, 300] == color_of(0)).all()
    assert (pixels[200, 250] == color_of(0)).all() and (pixels[400, 250] == color_of(0)).all()
    assert (pixels[300, 99] == CASING).all() and (pixels[300, 200] == 255).all()
    assert (pixels[500:] == 255).all()


def test_detections_below_the_score_are_not_drawn():
    image = np.full((700, 700, 3), 255, np.uint8)
    assert (np.asarray(draw(image, detections([9, 9, 99, 99]), NAMES, 0.95)) == 255).all()
    assert (np.asarray(draw(image, detections(), NAMES, 0.0)) == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (64, 64), (640, 480), (2100, 1500)])
def test_any_size_and_any_name_are_drawn(size):
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    boxes = [[0, 0, width, height]] * len(NAMES) + [[-9, -9, width + 9, 2], [1, 1, 1, 1]]
    labels = [*range(len(NAMES)), 0, 0]
    picture = draw(image, detections(*boxes, labels=labels), NAMES, 0.3)
    factor = enlargement(width, height)
    assert picture.size == (width * factor, height * factor)
    assert np.asarray(picture).any()


def test_small_images_are_enlarged_by_whole_factors():
    assert [enlargement(*size) for size in ((640, 10), (639, 639), (128, 64), (1, 1))] == [
        1,
        2,
        5,
        16,
    ]


def test_a_label_fits_into_its_picture():
    whole = fitting_label("cell", "0.90", 13, 500)
    assert whole.text == "cell 0.90" and whole.width <= 500
    narrow = fitting_label("a" * 20 + "b" * 20, "0.90", 13, 120)
    assert narrow.text.endswith("b 0.90") and "…" in narrow.text and narrow.width <= 120
    assert fitting_label("a" * 40, "0.90", 13, measured("0.90", 13).width).text == "0.90"
    assert fitting_label("a" * 40, "0.90", 13, 5) is None


def test_classes_have_different_colors():
    assert len({color_of(label) for label in range(80)}) == 80
