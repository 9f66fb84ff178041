"""D-ECE and LaECE by hand, by a loop over detections, and against hotcoco.

hotcoco computes D-ECE, in all and by class. LaECE equals its mean over classes where every true
positive has an IoU of 1. Both libraries count the detections that match no crowd.
"""

import copy
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hotcoco import COCO, COCOeval

from kd.evaluation.calibration import (
    DECE_BINS,
    LAECE_BINS,
    detection_ece,
    localization_bins,
    localization_ece,
    precision_bins,
)
from kd.evaluation.matching import match, pair, pair_columns
from kd.evaluation.metrics import evaluate
from tests.support.scenes import coco, detection, random_input, reference

TOLERANCE = 1e-9
SQUARE = (0, 0, 10, 10)
SMOKE = json.loads(
    gzip.decompress(Path(__file__).with_name("smoke_detections.json.gz").read_bytes())
)


def matched(truth, detections, iou=0.5):
    pairing = pair(truth, detections)
    return pairing, match(pairing, iou)


def hotcoco(truth, detections, bins):
    """Return hotcoco's ECE, that of each class with detections, and its bins."""
    target = COCO(copy.deepcopy(truth))
    engine = COCOeval(target, target.load_res(copy.deepcopy(detections)), "bbox")
    engine.evaluate()
    result = engine.calibration(n_bins=bins, iou_threshold=0.5)
    return result["ece"], result["per_category"], result["bins"]


def exact(truth, detections):
    """Return the detections with the box of the object that they match, if any."""
    pairing, matches = matched(truth, detections)
    places = pairing.objects.place[matches.object[matches.right]]
    results = list(detections)
    for row, place in zip(pairing.detections.place[matches.right], places, strict=True):
        results[row] = results[row] | {"bbox": truth["annotations"][place]["bbox"]}
    return results


def by_loop(truth, detections, bins, iou):
    """Return LaECE of pycocotools' matches, one detection after the other."""
    names = [category["name"] for category in truth["categories"]]
    engine = reference(truth, detections, names, [iou])
    boxes = {item["id"]: item["bbox"] for item in truth["annotations"]}
    errors = []
    for index, _ in enumerate(names):
        sums, total = {}, 0
        images = len(truth["images"])
        start = index * 4 * images
        for image in filter(None, engine.evalImgs[start : start + images]):
            for number, gt, ignored in zip(
                image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True
            ):
                if ignored:
                    continue
                item = detections[number - 1]
                target = overlap(item["bbox"], boxes[int(gt)]) if gt else 0.0
                place = min(int(item["score"] * bins), bins - 1)
                sums[place] = sums.get(place, 0.0) + item["score"] - target
                total += 1
        if total:
            errors.append(sum(map(abs, sums.values())) / total)
    return np.mean(errors) if errors else None


def overlap(a, b):
    sides = [
        min(a[axis] + a[axis + 2], b[axis] + b[axis + 2]) - max(a[axis], b[axis]) for axis in (0, 1)
    ]
    shared = max(sides[0], 0) * max(sides[1], 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def assert_equals_references(truth, detections):
    names = [category["name"] for category in truth["categories"]]
    pairing, matches = matched(truth, detections)
    assert localization_ece(pairing, matches) == pytest.approx(
        by_loop(truth, detections, LAECE_BINS, 0.5), abs=TOLERANCE
    )
    ece, _, bins = hotcoco(truth, detections, DECE_BINS)
    ours = detection_ece(pairing, matches)
    assert (ours or 0) == pytest.approx(ece, abs=TOLERANCE)
    assert pytest.approx(ours, abs=TOLERANCE) == evaluate(truth, detections, names).D_ECE
    counts = precision_bins(pairing, matches)
    assert counts.count[0].tolist() == [entry["count"] for entry in bins]
    results = exact(truth, detections)
    _, by_class, _ = hotcoco(truth, results, LAECE_BINS)
    pairing, matches = matched(truth, results)
    errors = localization_bins(pairing, matches).error
    defined = [value for value in errors.tolist() if not np.isnan(value)]
    assert defined == pytest.approx(list(by_class.values()), abs=TOLERANCE)


@pytest.mark.parametrize("tied", [False, True])
def test_random_input_equals_the_references(tied):
    generator = np.random.default_rng(70 + tied)
    for _ in range(40):
        truth, detections, _ = random_input(generator, tied)
        assert_equals_references(truth, detections)


CROWD = (1, 3, (0, 0, 100, 100), {"iscrowd": 1})


@pytest.mark.parametrize(
    ("boxes", "detections"),
    [
        ([], []),
        ([(1, 3, SQUARE)], []),
        ([], [detection(1, 3, SQUARE, 0.9), detection(1, 6, SQUARE, 0.3)]),
        ([(1, 3, SQUARE)], [detection(1, 6, SQUARE, 0.9)]),
        ([CROWD], [detection(1, 3, SQUARE, 0.9)]),
        ([CROWD, (1, 3, SQUARE)], [detection(1, 3, (1, 0, 10, 10), 0.9)] * 3),
        ([(1, 3, SQUARE)] * 2, [detection(1, 3, SQUARE, 0.5)] * 4),
        ([(1, 3, SQUARE)], [detection(1, 3, SQUARE, score) for score in (0, 0.05, 0.95, 1)]),
    ],
    ids=[
        *("nothing", "no detection", "no object", "a class without objects"),
        *("only a crowd", "in a crowd", "equal scores", "ends of bins"),
    ],
)
def test_degenerate_input_equals_the_references(boxes, detections):
    assert_equals_references(coco(boxes), detections)


def test_detections_of_a_trained_detector_equal_the_references():
    assert_equals_references(SMOKE["truth"], SMOKE["detections"])


def test_errors_of_four_detections_by_hand():
    boxes = [(1, 3, SQUARE), (1, 3, (100, 0, 10, 10)), (1, 6, SQUARE)]
    detections = [
        detection(1, 3, (0, 0, 10, 8), 0.92),  # right, IoU 0.8
        detection(1, 3, (50, 50, 10, 10), 0.94),  # wrong, in the same bin
        detection(1, 3, (100, 0, 10, 9), 0.5),  # right, IoU 0.9
        detection(1, 6, (0, 0, 10, 3), 0.2),  # wrong at IoU 0.5; IoU 0.3
    ]
    truth = coco(boxes)
    metrics = evaluate(truth, detections, ["cat", "dog"])
    assert pytest.approx((abs(1.86 - 1) + 0.5 + 0.2) / 4) == metrics.D_ECE
    cat, dog = (abs(1.86 - 0.8) + abs(0.5 - 0.9)) / 3, 0.2
    assert pytest.approx((cat + dog) / 2) == metrics.LaECE
    # Without a threshold the last detection is right, with a target of its IoU.
    assert pytest.approx((cat + 0.1) / 2) == metrics.LaECE0


def test_any_overlap_counts_without_a_threshold():
    generator = np.random.default_rng(12)
    for _ in range(20):
        truth, detections, _ = random_input(generator, tied=False)
        names = [category["name"] for category in truth["categories"]]
        ours = evaluate(truth, detections, names).LaECE0
        # pycocotools also matches boxes that do not overlap at a threshold of 0.
        assert ours == pytest.approx(by_loop(truth, detections, LAECE_BINS, 1e-12), abs=TOLERANCE)


def test_a_calibrated_detector_has_no_error_and_none_is_undefined():
    boxes = [(1, 3, (20 * i, 0, 10, 10)) for i in range(4)]
    halves = [detection(1, 3, (20 * i, 50 * (i % 2), 10, 10), 0.5) for i in range(4)]
    pairing, matches = matched(coco(boxes), halves)
    assert detection_ece(pairing, matches) == localization_ece(pairing, matches) == 0
    pairing, matches = matched(coco(boxes), [])
    assert detection_ece(pairing, matches) is None
    assert localization_ece(pairing, matches) is None


def test_pairs_are_complete_without_a_least_overlap():
    from kd.evaluation.detections import read

    truth = coco([(1, 3, (0, 0, 100, 100))])
    columns = read(truth, [detection(1, 3, (99, 99, 40, 40), 0.9)], ["cat", "dog"])
    assert len(pair_columns(columns[0], ["cat", "dog"], *columns[1:]).pairs.iou) == 0
    full = pair_columns(columns[0], ["cat", "dog"], *columns[1:], least_overlap=0.0)
    assert full.pairs.iou == pytest.approx([1 / 11599])
    assert match(full, 0.0).overlap == pytest.approx([1 / 11599])
