"""TIDE by hand: every error at the ends of its range of IoU, and the gain of its fix."""

import numpy as np
import pytest

from analysis.figures.tide.errors import (
    BKG,
    BOTH,
    CLS,
    CORRECT,
    DUPE,
    ERRORS,
    LOC,
    MAIN,
    THRESHOLDS,
    diagnose,
    measure_errors,
    overlaps_of,
)
from analysis.statistics.bootstrap import resample
from kd.evaluation.matching import pair
from tests.support.scenes import coco, detection, random_input

CAT, DOG = 3, 6
OBJECT = (0, 0, 10, 10)
HALF, TENTH, BARELY, FAR = (0, 0, 10, 5), (0, 0, 10, 1), (0, 0, 10, 1.01), (0, 0, 10, 0.99)
"""Boxes with IoU 0.5, 0.1, slightly more and slightly less with the object; all are exact."""
ELSEWHERE = (50, 50, 10, 10)
STEP = 100 / 101
"""AP points of one recall at precision 1."""


def measure(truth, detections, iou=0.5):
    return measure_errors(
        overlaps_of(pair(truth, detections)), iou, resample(len(truth["images"]), 0, 0)
    )


def gains(errors):
    return dict(zip(ERRORS, errors.gains[:, 0].tolist(), strict=True))


def counts(errors):
    return dict(zip(ERRORS, errors.counts.sum(axis=1).tolist(), strict=True))


def kinds(truth, detections, iou=0.5):
    """Return the error type of each detection, by falling score."""
    return diagnose(overlaps_of(pair(truth, detections)), iou).kind.tolist()


@pytest.mark.parametrize(
    ("category", "box", "expected"),
    [
        (CAT, OBJECT, CORRECT),
        (CAT, HALF, CORRECT),
        (CAT, (0, 0, 10, 4.99), LOC),
        (CAT, TENTH, LOC),
        (CAT, FAR, BKG),
        (CAT, ELSEWHERE, BKG),
        (DOG, OBJECT, CLS),
        (DOG, HALF, CLS),
        (DOG, (0, 0, 10, 4.99), BOTH),
        (DOG, BARELY, BOTH),
        (DOG, TENTH, BKG),
    ],
)
def test_one_detection_of_one_cat(category, box, expected):
    assert kinds(coco([(1, CAT, OBJECT)]), [detection(1, category, box, 0.9)]) == [expected]


@pytest.mark.parametrize(
    ("box", "expected"), [(OBJECT, DUPE), ((0, 0, 10, 5.01), DUPE), (HALF, LOC), (FAR, BKG)]
)
def test_a_second_detection_is_a_duplicate_only_beyond_the_threshold(box, expected):
    detections = [detection(1, CAT, OBJECT, 0.9), detection(1, CAT, box, 0.8)]
    assert kinds(coco([(1, CAT, OBJECT)]), detections) == [CORRECT, expected]


def test_class_errors_precede_duplicates_and_location_errors_precede_both():
    truth = coco([(1, CAT, OBJECT), (1, DOG, OBJECT)])
    twice = [detection(1, CAT, OBJECT, 0.9), detection(1, CAT, OBJECT, 0.8)]
    assert kinds(truth, twice) == [CORRECT, CLS]
    assert kinds(truth, [detection(1, CAT, HALF, 0.9)], iou=0.75) == [LOC]
    nearer = coco([(1, CAT, OBJECT), (1, DOG, HALF)])
    assert kinds(nearer, [detection(1, CAT, HALF, 0.9)], iou=0.75) == [LOC]


def test_detections_in_an_image_without_objects_are_of_the_background():
    truth = coco([(1, CAT, OBJECT), (2, CAT, OBJECT, {"iscrowd": 1})], images=(1, 2, 3))
    detections = [detection(3, CAT, OBJECT, 0.9), detection(2, DOG, OBJECT, 0.8)]
    assert kinds(truth, detections) == [BKG, BKG]


def test_a_detection_matches_the_free_object_with_most_overlap_and_the_first_of_equals():
    truth = coco([(1, CAT, (0, 0, 10, 10)), (1, CAT, (0, 5, 10, 10))])
    detections = [detection(1, CAT, (0, 2.5, 10, 10), 0.9), detection(1, CAT, (0, 5, 10, 10), 0.8)]
    assert kinds(truth, detections) == [CORRECT, CORRECT]
    assert kinds(truth, detections[::-1]) == [CORRECT, CORRECT]
    assert kinds(truth, [*detections, detection(1, CAT, (0, 0, 10, 10), 0.7)])[-1] == DUPE


def test_gains_of_background_and_miss_by_hand():
    truth = coco([(1, CAT, OBJECT), (2, CAT, OBJECT)], images=(1, 2))
    detections = [detection(1, CAT, ELSEWHERE, 0.95), detection(1, CAT, OBJECT, 0.9)]
    errors = measure(truth, detections)
    # Half the objects at precision 1/2: 51 of the 101 recalls.
    assert errors.ap[0] == pytest.approx(25.5 * STEP)
    expected = dict.fromkeys(ERRORS, 0.0) | {
        "Bkg": 25.5 * STEP,
        "FP": 25.5 * STEP,
        "Miss": 50 - 25.5 * STEP,
        "FN": 50 - 25.5 * STEP,
    }
    assert gains(errors) == pytest.approx(expected)
    assert counts(errors) == dict.fromkeys(ERRORS, 0) | dict.fromkeys(
        ("Bkg", "Miss", "FP", "FN"), 1
    )


def test_an_object_with_a_location_error_is_not_missed():
    errors = measure(coco([(1, CAT, OBJECT)]), [detection(1, CAT, TENTH, 0.9)])
    assert counts(errors) == dict.fromkeys(ERRORS, 0) | {"Loc": 1, "FP": 1, "FN": 1}
    assert gains(errors)["Loc"] == pytest.approx(100)
    assert gains(errors)["Miss"] == 0


def test_only_the_best_error_of_an_object_is_fixed():
    truth = coco([(1, CAT, OBJECT), (2, CAT, OBJECT)], images=(1, 2))
    detections = [
        detection(1, DOG, OBJECT, 0.9),
        detection(1, CAT, TENTH, 0.8),
        detection(2, CAT, OBJECT, 0.7),
    ]
    errors = measure(truth, detections)
    # There are no dogs: with a detection of one their AP is 0, without it they do not count.
    assert errors.ap[0] == pytest.approx(25.5 * STEP / 2)
    # The Cls error is the best for its cat; fixed, it ranks first, and the Loc error remains wrong.
    fixed = (51 * STEP / 100) + 50 * STEP / 100 * 2 / 3
    assert gains(errors)["Cls"] == pytest.approx(100 * fixed - 25.5 * STEP / 2)
    # The Loc error is only removed.
    assert gains(errors)["Loc"] == pytest.approx((51 - 25.5) * STEP / 2)


def test_duplicates_cost_what_their_removal_gains():
    truth = coco([(1, CAT, OBJECT), (2, CAT, OBJECT)], images=(1, 2))
    detections = [
        detection(1, CAT, OBJECT, 0.9),
        detection(1, CAT, OBJECT, 0.8),
        detection(2, CAT, OBJECT, 0.7),
    ]
    errors = measure(truth, detections)
    assert gains(errors)["Dupe"] == pytest.approx(50 * STEP / 3)
    assert counts(errors)["Dupe"] == 1


def test_detections_in_a_crowd_of_their_class_cost_no_ap():
    boxes = [(1, CAT, OBJECT), (1, CAT, (40, 40, 100, 100), {"iscrowd": 1})]
    inside = (50, 50, 10, 10)
    errors = measure(coco(boxes), [detection(1, CAT, inside, 0.95), detection(1, CAT, OBJECT, 0.9)])
    assert errors.ap[0] == pytest.approx(100)
    assert errors.gains.max() == 0
    assert counts(errors)["FP"] == 0
    other = measure(coco(boxes), [detection(1, DOG, inside, 0.95), detection(1, CAT, OBJECT, 0.9)])
    assert counts(other)["FP"] == 1


def test_the_hundred_best_of_an_image_count_over_all_classes():
    truth = coco([(1, CAT, OBJECT)])
    stray = [detection(1, DOG, ELSEWHERE, 0.5 + rank / 1000) for rank in range(100)]
    errors = measure(truth, [*stray, detection(1, CAT, OBJECT, 0.4)])
    assert counts(errors) == dict.fromkeys(ERRORS, 0) | {"Bkg": 100, "FP": 100} | dict.fromkeys(
        ("Miss", "FN"), 1
    )


def perfect(generator, images=6, objects=5):
    """Return separate objects of two classes, and a correct detection of each."""
    boxes = [
        (image, int(generator.choice([CAT, DOG])), (40 * place, 0, 20, int(height)))
        for image in range(1, images + 1)
        for place, height in enumerate(generator.integers(9, 30, objects))
    ]
    detections = [detection(*box, float(generator.uniform(0.5, 1))) for box in boxes]
    return coco(boxes, range(1, images + 1)), detections


@pytest.mark.parametrize("iou", THRESHOLDS)
def test_perfect_detections_have_no_errors(iou):
    errors = measure(*perfect(np.random.default_rng(0)), iou)
    assert errors.ap[0] == pytest.approx(100)
    assert np.abs(errors.gains).max() == pytest.approx(0)
    assert errors.counts.max() == 0


def test_wrong_labels_alone_cost_all_missing_ap_by_class_errors():
    generator = np.random.default_rng(1)
    truth, detections = perfect(generator)
    for item in detections:
        if generator.random() < 0.5:
            item["category_id"] = CAT + DOG - item["category_id"]
    errors = measure(truth, detections)
    assert 0 < errors.ap[0] < 100
    assert gains(errors)["Cls"] == pytest.approx(100 - errors.ap[0])


def test_doubling_all_detections_adds_only_duplicates():
    truth, detections = perfect(np.random.default_rng(2))
    duplicates = [item | {"score": item["score"] / 2} for item in detections]
    errors = measure(truth, detections + duplicates)
    assert counts(errors) == dict.fromkeys(ERRORS, 0) | dict.fromkeys(
        ("Dupe", "FP"), len(detections)
    )
    assert errors.ap[0] == pytest.approx(100)


@pytest.mark.parametrize("seed", range(10))
def test_results_do_not_depend_on_the_order_of_detections_and_images(seed):
    generator = np.random.default_rng(seed)
    truth, detections, _ = random_input(generator, tied=False)
    one = measure(truth, detections)
    shuffled = truth | {"images": truth["images"][::-1]}
    other = measure(
        shuffled, [detections[place] for place in generator.permutation(len(detections))]
    )
    np.testing.assert_allclose(one.gains, other.gains)
    np.testing.assert_allclose(one.ap, other.ap)
    np.testing.assert_array_equal(one.counts, other.counts)


def test_errors_count_for_the_predicted_or_missed_class():
    truth = coco([(1, CAT, OBJECT), (1, DOG, ELSEWHERE)])
    errors = measure(truth, [detection(1, DOG, OBJECT, 0.9)])
    cats, dogs = errors.counts.T
    assert dict(zip(ERRORS, dogs.tolist(), strict=True))["Cls"] == 1
    assert dict(zip(ERRORS, cats.tolist(), strict=True))["Cls"] == 0
    assert dogs[MAIN.index("Miss")] == 1
    assert cats[ERRORS.index("FN")] == 1


def test_a_class_without_objects_has_no_ap():
    errors = measure(coco([(1, CAT, OBJECT)]), [detection(1, CAT, OBJECT, 0.9)])
    assert errors.by_class[0] == pytest.approx(100)
    assert np.isnan(errors.by_class[1])


def test_without_objects_all_detections_are_background_errors():
    errors = measure(coco([]), [detection(1, CAT, OBJECT, 0.9)])
    assert errors.ap[0] == 0
    assert gains(errors) == dict.fromkeys(ERRORS, 0.0) | {"Bkg": 100.0}
    nothing = measure(coco([]), [])
    assert np.isnan(nothing.ap[0]) and np.isnan(nothing.gains).all()
    assert nothing.counts.sum() == 0
