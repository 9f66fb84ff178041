"""The file of ``kd predict``: its form, the form of earlier versions, and what is refused."""

import gzip
import json

import numpy as np
import pytest

from analysis.matching.outcomes import MatchedRun
from analysis.statistics import resampled
from kd.common.errors import UserError
from kd.common.files import read_predictions, write_predictions
from kd.evaluation.evaluate import metrics_of
from kd.evaluation.stored import (
    KEYS,
    StoredDetections,
    coco_results,
    read_detections,
    stored_boxes,
)
from tests.evaluation.test_metrics import ADVERSARIAL
from tests.support.scenes import coco, detection, random_input

SQUARE = [10.0, 20.0, 40.0, 40.0]
TRUTH = coco([(7, 3, SQUARE), (9, 6, SQUARE)], images=(9, 7))
RECORDS = [
    {"image": 9, "label": 1, "bbox": [1.5, 2.0, 3.0, 4.0], "score": 0.25},
    {"image": 7, "label": 0, "bbox": [5.0, 6.0, 7.0, 8.125], "score": 0.5},
]
COLUMNS = {
    "image": [9, 7],
    "label": [1, 0],
    "bbox": [1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.125],
    "score": [0.25, 0.5],
}
RESULTS = [
    {"image_id": 9, "category_id": 6, "bbox": [1.5, 2.0, 3.0, 4.0], "score": 0.25},
    {"image_id": 7, "category_id": 3, "bbox": [5.0, 6.0, 7.0, 8.125], "score": 0.5},
]


# --- Form ------------------------------------------------------------------------------------


def test_the_file_has_four_lists(tmp_path):
    path = tmp_path / "detections.json.gz"
    StoredDetections.parse(RECORDS).write(path)
    text = gzip.decompress(path.read_bytes()).decode()
    assert text == json.dumps(COLUMNS)  # image ids and labels have no point


@pytest.mark.parametrize("content", [RECORDS, COLUMNS], ids=["earlier form", "columns"])
def test_both_forms_give_the_same_columns(tmp_path, content):
    path = tmp_path / "detections.json.gz"
    write_predictions(path, content)
    detections = read_detections(path, TRUTH)
    assert detections.image.tolist() == [1, 0]  # of the sorted ids 7, 9
    assert detections.label.tolist() == [1, 0]
    assert detections.box.tolist() == [[1.5, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.125]]
    assert detections.score.tolist() == [0.25, 0.5]
    assert coco_results(detections, TRUTH) == RESULTS


def test_names_of_voc_images_are_texts():
    truth = {**TRUTH, "images": [{"id": 1, "img_id": "000012"}, {"id": 2, "img_id": "2008_01"}]}
    stored = StoredDetections.parse({**COLUMNS, "image": ["2008_01", "000012"]})
    assert stored.positioned(truth).image.tolist() == [1, 0]
    with pytest.raises(UserError, match="image 12 is not in the split"):
        StoredDetections.parse({**COLUMNS, "image": ["000012", 12]}).positioned(truth)


@pytest.mark.parametrize(
    "content", [[], {key: [] for key in KEYS}], ids=["earlier form", "columns"]
)
def test_a_file_may_have_no_detection(content):
    detections = StoredDetections.parse(content).positioned(TRUTH)
    assert detections.box.shape == (0, 4) and coco_results(detections, TRUTH) == []
    assert metrics_of(detections, TRUTH).AP == 0.0


def test_parts_are_joined_in_order():
    corners, labels = np.array([[1, 2, 4, 6]], np.float32), np.array([1])
    first = StoredDetections.of_image(9, corners, labels, np.array([0.1], np.float32))
    none = StoredDetections.of_image(3, np.empty((0, 4)), np.empty(0, int), np.empty(0))
    both = StoredDetections.concatenate([none, first, StoredDetections.parse(COLUMNS)])
    assert both.image == [9, 9, 7] and both.label.tolist() == [1, 1, 0]
    assert both.box[0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert both.score.tolist() == [float(np.float32(0.1)), 0.25, 0.5]
    assert StoredDetections.concatenate([]).box.shape == (0, 4)


# --- Equal results ---------------------------------------------------------------------------


def stored_forms(truth, results):
    """Return results as a file of an earlier version has them, and as columns."""
    labels = {category["id"]: label for label, category in enumerate(truth["categories"])}
    records = [
        {
            "image": one["image_id"],
            "label": labels[one["category_id"]],
            "bbox": one["bbox"],
            "score": one["score"],
        }
        for one in results
    ]
    columns = {key: [record[key] for record in records] for key in KEYS}
    return records, columns | {"bbox": [side for box in columns["bbox"] for side in box]}


def assert_all_forms_agree(tmp_path, truth, results):
    """Compare metrics and resampled metrics of COCO results with those of both forms of a file."""
    metrics = metrics_of(results, truth)
    samples = resampled.samples_of(MatchedRun.of(truth, results))
    for name, content in zip("ab", stored_forms(truth, results), strict=True):
        path = tmp_path / f"{name}.gz"
        write_predictions(path, content)
        detections = read_detections(path, truth)
        assert coco_results(detections, truth) == results
        assert metrics_of(detections, truth) == metrics
        for figure, values in resampled.samples_of(MatchedRun.of(truth, detections)).items():
            np.testing.assert_array_equal(values, samples[figure])


@pytest.mark.parametrize("seed", range(8))
def test_random_results_are_equal_from_lists_and_from_files(tmp_path, seed):
    truth, results, _ = random_input(np.random.default_rng(seed), tied=bool(seed % 2))
    assert_all_forms_agree(tmp_path, truth, results)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_results_are_equal_from_lists_and_from_files(tmp_path, name):
    boxes, results = ADVERSARIAL[name]
    truth = coco(boxes, images=(1, 2, 3))
    assert_all_forms_agree(tmp_path, truth, [detection(*item) for item in results])


# --- Rounding --------------------------------------------------------------------------------


def bits(values):
    return np.asarray(values, np.float64).view(np.int64).tolist()


def assert_rounded_as_python_does(corners):
    boxes = np.asarray(corners, np.float64)
    sides = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    expected = [[round(side, 3) for side in box] for box in sides.tolist()]
    assert bits(stored_boxes(corners)) == bits(expected)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("largest", [1e-3, 1.0, 1333.0, 1e7, 1e13, 1e17])
def test_boxes_are_rounded_as_python_does(kind, largest):
    corners = np.random.default_rng(0).uniform(-largest, largest, (2000, 4)).astype(kind)
    assert_rounded_as_python_does(corners)


def test_ties_are_rounded_as_python_does():
    thousandths = np.arange(-4000, 4000).reshape(-1, 4)
    assert_rounded_as_python_does((thousandths + 0.5) / 1000)  # as close as doubles come to a tie
    assert_rounded_as_python_does(np.nextafter((thousandths + 0.5) / 1000, np.inf))
    assert_rounded_as_python_does(thousandths / 16)  # 0.0625 and others are ties exactly
    assert stored_boxes(np.array([[0.0625, 0.1875, 1.0, 1.0]]))[0, :2].tolist() == [0.062, 0.188]


def test_odd_numbers_are_rounded_as_python_does():
    odd = [[-0.0, -0.0001, -0.0, 5.0], [np.nan, 1.0, np.inf, 2.0], [1e300, 2.0, 1.0005, -np.inf]]
    with np.errstate(invalid="ignore"):
        assert_rounded_as_python_does(np.array(odd))


# --- Refusals --------------------------------------------------------------------------------


LISTS = "must be an object with the lists 'image', 'label', 'bbox', 'score'"
REFUSED = {
    "a number": (1, LISTS),
    "a key is absent": ({key: COLUMNS[key] for key in KEYS[:3]}, LISTS),
    "a column is no list": ({**COLUMNS, "score": 0.5}, LISTS),
    "records without a key": ([{**RECORDS[0]}, {"image": 7}], "not a list of detections"),
    "a list of numbers": ([1, 2], "not a list of detections"),
    "a record with a short box": (
        [{**RECORDS[0], "bbox": [1.0, 2.0, 3.0]}],
        r"'bbox' must be x, y, width, height, not \[1.0, 2.0, 3.0\]",
    ),
    "labels are fewer": (
        {**COLUMNS, "label": [1]},
        "'label' has length 1, not 2 for 2 images",
    ),
    "a box is short": (
        {**COLUMNS, "bbox": COLUMNS["bbox"][1:]},
        "'bbox' has length 7, not 8 for 2 images",
    ),
    "scores are more": (
        {**COLUMNS, "score": [0.1, 0.2, 0.3]},
        "'score' has length 3, not 2 for 2 images",
    ),
    "a label is fractional": ({**COLUMNS, "label": [1, 0.5]}, "'label' must have whole numbers"),
    "a label is a text": ({**COLUMNS, "label": [1, "0"]}, "'label' must have whole numbers"),
    "a label is huge": ({**COLUMNS, "label": [1, 2**80]}, "'label' must have whole numbers"),
    "a score is null": ({**COLUMNS, "score": [0.5, None]}, "'score' must have numbers"),
    "a score is a list": ({**COLUMNS, "score": [0.5, [0.5]]}, "'score' must have numbers"),
    "boxes are lists": ({**COLUMNS, "bbox": [[1, 2, 3, 4]] * 8}, "'bbox' must have numbers"),
    "a score is NaN": (
        {**COLUMNS, "score": [0.5, float("nan")]},
        r"detection 1 of image 7: score nan is not finite \(1 such detections\)",
    ),
    "a side is infinite": (
        {**COLUMNS, "bbox": [float("inf"), *COLUMNS["bbox"][1:]]},
        "detection 0 of image 9: bbox .inf, 2.0, 3.0, 4.0. is not finite",
    ),
    "a score of a record is NaN": (
        [{**RECORDS[0], "score": float("nan")}],
        "detection 0 of image 9: score nan is not finite",
    ),
    "an image is unknown": ({**COLUMNS, "image": [9, 8]}, "image 8 is not in the split"),
    "an image is a list": ({**COLUMNS, "image": [9, [7]]}, r"image \[7\] is not in the split"),
    "a label is out of range": ({**COLUMNS, "label": [0, 2]}, "class 2 is not in the split"),
    "a label is negative": ({**COLUMNS, "label": [0, -1]}, "class -1 is not in the split"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_content_is_refused_with_its_place_and_remedy(tmp_path, name):
    content, message = REFUSED[name]
    path = tmp_path / "val" / "detections.json.gz"
    write_predictions(path, content)
    place = r"val/detections\.json\.gz: "
    remedy = f"; predict again: kd predict {tmp_path} --split val"
    with pytest.raises(UserError, match=f"{place}{message}.*{remedy}$"):
        read_detections(path, TRUTH)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "detections.json.gz"
    StoredDetections.parse(COLUMNS).write(path)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(UserError, match=r"detections\.json\.gz: cannot be read .*; predict again"):
        read_detections(path, TRUTH)
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(path)
