"""Confusion matrices by hand and against hotcoco.

hotcoco counts detections in crowds as false positives, and has another order where scores or IoUs
are equal. Both agree without crowds and without such ties of two classes.
"""

import copy

import numpy as np
import pytest
from hotcoco import COCO, COCOeval

from analysis.matching.confusion import confusion_matrix
from kd.evaluation.matching import pair
from tests.support.scenes import coco, detection, random_input

SQUARE = (0, 0, 10, 10)


def confusion(truth, detections, score=0.0, iou=0.5):
    pairing = pair(truth, detections)
    return confusion_matrix(pairing, iou, np.full(len(pairing.classes), score)).tolist()


def hotcoco(truth, detections, score, iou):
    target = COCO(copy.deepcopy(truth))
    engine = COCOeval(target, target.load_res(copy.deepcopy(detections)), "bbox")
    return engine.confusion_matrix(iou_thr=iou, max_det=1000, min_score=score)["matrix"].tolist()


@pytest.mark.parametrize(("score", "iou"), [(0.0, 0.5), (0.4, 0.5), (0.0, 0.75), (0.9, 0.25)])
def test_random_input_equals_hotcoco(score, iou):
    generator = np.random.default_rng(90)
    for _ in range(40):
        truth, detections, _ = random_input(generator, tied=False)
        truth["annotations"] = [item for item in truth["annotations"] if not item["iscrowd"]]
        assert confusion(truth, detections, score, iou) == hotcoco(truth, detections, score, iou)


@pytest.mark.parametrize(
    ("boxes", "detections"),
    [
        ([], []),
        ([(1, 3, SQUARE)], []),
        ([], [detection(1, 3, SQUARE, 0.9)]),
        ([(1, 3, SQUARE)], [detection(1, 3, SQUARE, 0.9)] * 3),
    ],
    ids=["nothing", "no detection", "no object", "duplicates"],
)
def test_degenerate_input_equals_hotcoco(boxes, detections):
    truth = coco(boxes)
    assert confusion(truth, detections) == hotcoco(truth, detections, 0.0, 0.5)


def test_a_wrong_class_with_a_higher_score_takes_the_object():
    truth = coco([(1, 3, SQUARE)])
    both = [detection(1, 6, SQUARE, 0.9), detection(1, 3, SQUARE, 0.8)]
    assert confusion(truth, both) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert confusion(truth, both, score=0.95) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_of_equal_scores_the_first_of_the_list_is_matched():
    truth = coco([(1, 3, SQUARE)])
    both = [detection(1, 6, SQUARE, 0.9), detection(1, 3, SQUARE, 0.9)]
    assert confusion(truth, both) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert confusion(truth, both[::-1]) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_of_equal_overlaps_the_object_of_the_same_class_is_matched():
    truth = coco([(1, 6, SQUARE), (1, 3, SQUARE)])
    assert confusion(truth, [detection(1, 3, SQUARE, 0.9)]) == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_crowds_are_no_objects_and_their_detections_are_ignored():
    truth = coco([(1, 3, (0, 0, 100, 100), {"iscrowd": 1}), (1, 3, SQUARE)])
    inside = [detection(1, 3, (50, 50, 20, 20), 0.9), detection(1, 6, (50, 50, 20, 20), 0.9)]
    # A dog in a crowd of cats is a false positive.
    assert confusion(truth, inside) == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_classes_have_thresholds_of_their_own():
    truth = coco([(1, 3, SQUARE), (1, 6, (50, 50, 20, 20))])
    detections = [detection(1, 3, SQUARE, 0.4), detection(1, 6, (50, 50, 20, 20), 0.4)]
    pairing = pair(truth, detections)
    counts = confusion_matrix(pairing, 0.5, np.array([0.4, np.nan]))
    assert counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
