"""Columns against what a plain loop over the records gives, and the one check that is new."""

import gc
import gzip
import json

import numpy as np
import pytest

from kd.common.errors import UserError
from kd.common.files import read_predictions, uncollected, write_predictions
from kd.evaluation.detections import Detections, by_class, read
from tests.support.scenes import coco, detection, random_input

SQUARE = (10, 20, 40, 40)


def plain(records, images, labels):
    """Return image, label and box of records, one record at a time."""
    image = [images.index(record["image_id"]) for record in records]
    label = [labels.index(record["category_id"]) for record in records]
    box = np.array([record["bbox"] for record in records], dtype=float).reshape(-1, 4)
    return image, label, box


@pytest.mark.parametrize("seed", range(8))
def test_columns_are_those_of_a_plain_loop(seed):
    truth, results, classes = random_input(np.random.default_rng(seed), tied=bool(seed % 2))
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    images, labels = sorted(image["id"] for image in truth["images"]), [ids[c] for c in classes]
    image_ids, objects, detections = read(truth, results, classes)
    assert image_ids == images
    for records, columns in ((truth["annotations"], objects), (results, detections)):
        image, label, box = plain(records, images, labels)
        assert (columns.image.tolist(), columns.label.tolist()) == (image, label)
        np.testing.assert_array_equal(columns.box, box)
    assert detections.score.tolist() == [record["score"] for record in results]
    flags = [bool(item["iscrowd"]) for item in truth["annotations"]]
    assert objects.crowd.tolist() == flags
    either = [bool(item["iscrowd"] or item["ignore"]) for item in truth["annotations"]]
    assert objects.voc_ignored.tolist() == either


@pytest.mark.parametrize("seed", range(4))
def test_classes_are_those_of_a_plain_loop(seed):
    truth, results, classes = random_input(np.random.default_rng(seed), tied=bool(seed % 2))
    _, objects, detections = read(truth, results, classes)
    parts = list(by_class(objects, detections, len(classes)))
    assert len(parts) == len(classes)
    for label, (boxes, class_detections, place) in enumerate(parts):
        object_rows = np.flatnonzero(objects.label == label)
        rows = np.flatnonzero(detections.label == label).tolist()
        rows.sort(key=lambda row: (-detections.score[row], detections.image[row], row))
        assert place.tolist() == rows
        np.testing.assert_array_equal(boxes.box, objects.xyxy(object_rows))
        np.testing.assert_array_equal(boxes.ignored, objects.voc_ignored[object_rows])
        np.testing.assert_array_equal(class_detections.box, detections.xyxy(place))
        np.testing.assert_array_equal(class_detections.score, detections.score[place])


def test_equal_scores_rank_by_image_then_by_position():
    image = np.array([1, 0, 1, 0, 2, 0])
    score = np.array([0.5, 0.5, 0.5, 0.5, 0.9, -0.0])
    label = np.array([1, 1, 1, 1, 1, 0])
    assert Detections(image, label, np.zeros((6, 4)), score).ranking.tolist() == [5, 4, 1, 3, 0, 2]
    empty = np.empty(0, int)
    assert Detections(empty, empty, np.empty((0, 4)), np.empty(0)).ranking.tolist() == []


def test_zeros_of_both_signs_are_equal_scores():
    image, label = np.array([1, 0, 0]), np.zeros(3, int)
    score = np.array([0.0, -0.0, 0.0])
    assert Detections(image, label, np.zeros((3, 4)), score).ranking.tolist() == [1, 2, 0]


@pytest.mark.parametrize("box", [None, "1234", {"x": 1, "y": 2, "w": 3, "h": 4}, 7])
def test_a_box_that_is_no_list_is_named(box):
    good = detection(1, 3, SQUARE, 0.9)
    with pytest.raises(UserError, match="detection 1: bbox must be x, y, width, height, not "):
        read(coco([(1, 3, SQUARE)]), [good, {**good, "bbox": box}], ["cat"])


def test_boxes_may_be_arrays():
    results = [{**detection(1, 3, SQUARE, 0.9), "bbox": np.array(SQUARE)}] * 2
    assert read(coco([]), results, ["cat"])[2].box.tolist() == [list(SQUARE)] * 2


def test_predictions_survive_their_file(tmp_path):
    records, path = [{"image": 1, "label": 0, "bbox": [1.5, 2, 3, 4], "score": 0.1}], tmp_path / "a"
    write_predictions(path, records)
    assert read_predictions(path) == records == json.loads(gzip.decompress(path.read_bytes()))


def test_the_collector_rests_only_meanwhile():
    with pytest.raises(ZeroDivisionError), uncollected():
        assert not gc.isenabled() and 1 / 0
    assert gc.isenabled()
