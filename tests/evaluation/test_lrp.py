"""Optimal LRP by hand and against vernier.

vernier divides the localization component by 1 - tau, which we do not. It has a share of false
positives of 0 for a class without any detection, which its mean includes, and means of 0 where no
class defines them.
"""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from kd.evaluation.lrp import class_means, optimal_lrp
from kd.evaluation.matching import match, pair
from kd.evaluation.metrics import evaluate
from tests.support import vernier
from tests.support.scenes import coco, detection, random_input, repeated

TOLERANCE = 1e-9
SQUARE = (0, 0, 10, 10)
SMOKE = Path(__file__).with_name("smoke_detections.json.gz")


def lrp(truth, detections, iou=0.5):
    """Return (K, 5) of the classes, and the means."""
    pairing = pair(truth, detections)
    values = optimal_lrp(pairing, match(pairing, iou), iou)
    return values[..., 0].T, class_means(values)[:, 0]


def usual_areas(truth):
    """Return the truth with the areas of the boxes; vernier does not ignore areas above 1e10."""
    annotations = [
        item | {"area": item["bbox"][2] * item["bbox"][3]} for item in truth["annotations"]
    ]
    return truth | {"annotations": annotations}


def assert_equals_vernier(truth, detections, iou=0.5):
    ours, ours_means = lrp(truth, detections, iou)
    scores = sorted({item["score"] for item in detections}) or [0.5]
    means, classes = vernier.optimal_lrp(truth, detections, iou, scores)
    for mine, (total, loc, wrong, missed, score) in zip(ours, classes, strict=True):
        wrong = None if score is None else wrong
        loc = None if loc is None else loc * (1 - iou)
        theirs = np.array([total, loc, wrong, missed, score], dtype=float)
        assert mine == pytest.approx(theirs, abs=TOLERANCE, nan_ok=True)
    means[1] *= 1 - iou
    detected = [entry for entry in classes if entry[-1] is not None]
    means[2] = np.mean([entry[2] for entry in detected]) if detected else 0.0
    assert np.nan_to_num(ours_means) == pytest.approx(means, abs=TOLERANCE)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_random_input_equals_vernier(tied, iou):
    generator = np.random.default_rng(60 + tied)
    for _ in range(60):
        truth, detections, _ = random_input(generator, tied)
        assert_equals_vernier(usual_areas(truth), detections, iou)


@pytest.mark.parametrize(
    ("boxes", "detections"),
    [
        ([], []),
        ([(1, 3, SQUARE)], []),
        ([], [detection(1, 3, SQUARE, 0.9)]),
        ([(1, 3, SQUARE)], [detection(1, 3, (50, 50, 9, 9), 0.9)]),
        ([(1, 3, SQUARE)], [detection(1, 6, SQUARE, 0.9)]),
        ([(1, 3, (0, 0, 40, 40), {"iscrowd": 1})], [detection(1, 3, SQUARE, 0.9)]),
        ([(1, 3, SQUARE)] * 2, [detection(1, 3, SQUARE, 0.5)] * 4),
        ([(1, 3, (0, 0, 20, 10))], [detection(1, 3, SQUARE, 0.9)]),
    ],
    ids=[
        *("nothing", "no detection", "no object", "no match", "a class without objects"),
        *("only a crowd", "equal scores", "IoU of exactly one half"),
    ],
)
def test_degenerate_input_equals_vernier(boxes, detections):
    assert_equals_vernier(coco(boxes), detections)


def test_detections_of_a_trained_detector_equal_vernier():
    scene = json.loads(gzip.decompress(SMOKE.read_bytes()))
    assert_equals_vernier(scene["truth"], scene["detections"])


def test_optimal_lrp_of_three_detections_by_hand():
    boxes = [(1, 3, SQUARE), (1, 3, (100, 0, 10, 10)), (1, 6, SQUARE)]
    detections = [
        detection(1, 3, (0, 0, 10, 8), 0.9),  # IoU 0.8
        detection(1, 3, (50, 50, 10, 10), 0.8),  # false
        detection(1, 3, (100, 0, 10, 9), 0.7),  # IoU 0.9
    ]
    (cat, dog), means = lrp(coco(boxes), detections)
    # At 0.9: (0.2 / 0.5 + 0 + 1) / 2 = 0.7. At 0.7: (0.2 / 0.5 + 0.1 / 0.5 + 1 + 0) / 3.
    assert cat == pytest.approx([1.6 / 3, 0.15, 1 / 3, 0, 0.7])
    assert dog == pytest.approx([1, np.nan, np.nan, 1, np.nan], nan_ok=True)
    assert means == pytest.approx([(1.6 / 3 + 1) / 2, 0.15, 1 / 3, 0.5])
    # At IoU 0.85 the first is false, too, and the third costs 0.1 / 0.15.
    (strict, _), _ = lrp(coco(boxes), detections, 0.85)
    assert strict == pytest.approx([(0.1 / 0.15 + 2 + 1) / 4, 0.1, 2 / 3, 0.5, 0.7])


def test_a_grid_of_scores_gives_no_lower_value():
    generator = np.random.default_rng(8)
    for _ in range(20):
        truth, detections, _ = random_input(generator, tied=False)
        truth = usual_areas(truth)
        _, classes = vernier.optimal_lrp(truth, detections, 0.5, np.linspace(0, 1, 101).tolist())
        for ours, (theirs, *_) in zip(lrp(truth, detections)[0], classes, strict=True):
            assert theirs is None or theirs >= ours[0] - TOLERANCE


def test_weighted_images_equal_repeated_ones():
    generator = np.random.default_rng(9)
    for _ in range(20):
        truth, detections, _ = random_input(generator, tied=False)
        counts = generator.integers(0, 3, (len(truth["images"]), 2))
        pairing = pair(truth, detections)
        weighted = optimal_lrp(pairing, match(pairing), weights=counts.astype(float))
        for column, of_images in enumerate(counts.T):
            if not of_images.any():
                continue
            values, _ = lrp(*repeated(truth, detections, of_images))
            assert pytest.approx(values, abs=TOLERANCE, nan_ok=True) == weighted[..., column].T


def test_metrics_have_the_means_and_the_score_of_each_class():
    boxes = [(1, 3, SQUARE), (1, 6, SQUARE)]
    metrics = evaluate(coco(boxes), [detection(1, 3, (0, 0, 10, 8), 0.6)], ["cat", "dog"])
    assert (metrics.oLRP, metrics.oLRP_loc) == pytest.approx((0.7, 0.2))
    assert (metrics.oLRP_FP, metrics.oLRP_FN) == (0, 0.5)
    cat, dog = metrics.per_class["cat"], metrics.per_class["dog"]
    assert (cat.oLRP, cat.oLRP_score) == (pytest.approx(0.4), 0.6)
    assert (dog.oLRP, dog.oLRP_score) == (1, None)
    nothing = evaluate(coco([]), [], ["cat", "dog"])
    assert (nothing.oLRP, nothing.oLRP_loc, nothing.oLRP_FP, nothing.oLRP_FN) == (None,) * 4
