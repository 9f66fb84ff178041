"""TIDE by hand: every error, at the ends of its range of IoU, and what its fix is worth."""

import numpy as np
import pytest

from analysis.figures.tide.compute import (
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
    errors,
    survey,
)
from analysis.matching.matching import pair
from analysis.statistics.bootstrap import resample
from tests.support.scenes import coco, detection, random_input

CAT, DOG = 3, 6
OBJECT = (0, 0, 10, 10)
HALF, TENTH, BARELY, FAR = (0, 0, 10, 5), (0, 0, 10, 1), (0, 0, 10, 1.01), (0, 0, 10, 0.99)
"""IoU with the object: 0.5, 0.1, a little more, a little less; every number is exact."""
ELSEWHERE = (50, 50, 10, 10)
STEP = 100 / 101
"""AP points of one recall at precision 1."""


def measure(truth, found, iou=0.5):
    return errors(survey(pair(truth, found)), iou, resample(len(truth["images"]), 0, 0))


def gains(measured):
    return dict(zip(ERRORS, measured.gains[:, 0].tolist(), strict=True))


def counts(measured):
    return dict(zip(ERRORS, measured.counts.sum(axis=1).tolist(), strict=True))


def kinds(truth, found, iou=0.5):
    """Return what became of each detection, by falling score."""
    return diagnose(survey(pair(truth, found)), iou).kind.tolist()


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
    found = [detection(1, CAT, OBJECT, 0.9), detection(1, CAT, box, 0.8)]
    assert kinds(coco([(1, CAT, OBJECT)]), found) == [CORRECT, expected]


def test_another_class_comes_before_a_duplicate_and_a_bad_place_before_both():
    truth = coco([(1, CAT, OBJECT), (1, DOG, OBJECT)])
    twice = [detection(1, CAT, OBJECT, 0.9), detection(1, CAT, OBJECT, 0.8)]
    assert kinds(truth, twice) == [CORRECT, CLS]
    assert kinds(truth, [detection(1, CAT, HALF, 0.9)], iou=0.75) == [LOC]
    nearer = coco([(1, CAT, OBJECT), (1, DOG, HALF)])
    assert kinds(nearer, [detection(1, CAT, HALF, 0.9)], iou=0.75) == [LOC]


def test_without_objects_in_its_image_every_detection_is_of_the_background():
    truth = coco([(1, CAT, OBJECT), (2, CAT, OBJECT, {"iscrowd": 1})], images=(1, 2, 3))
    found = [detection(3, CAT, OBJECT, 0.9), detection(2, DOG, OBJECT, 0.8)]
    assert kinds(truth, found) == [BKG, BKG]


def test_each_takes_the_free_object_that_it_overlaps_most_and_the_first_of_equals():
    truth = coco([(1, CAT, (0, 0, 10, 10)), (1, CAT, (0, 5, 10, 10))])
    found = [detection(1, CAT, (0, 2.5, 10, 10), 0.9), detection(1, CAT, (0, 5, 10, 10), 0.8)]
    assert kinds(truth, found) == [CORRECT, CORRECT]
    assert kinds(truth, found[::-1]) == [CORRECT, CORRECT]
    assert kinds(truth, [*found, detection(1, CAT, (0, 0, 10, 10), 0.7)])[-1] == DUPE


def test_what_a_fix_of_the_background_and_of_a_miss_is_worth():
    truth = coco([(1, CAT, OBJECT), (2, CAT, OBJECT)], images=(1, 2))
    found = [detection(1, CAT, ELSEWHERE, 0.95), detection(1, CAT, OBJECT, 0.9)]
    measured = measure(truth, found)
    # Half the objects at precision 1/2: 51 of the 101 recalls.
    assert measured.ap[0] == pytest.approx(25.5 * STEP)
    expected = dict.fromkeys(ERRORS, 0.0) | {
        "Bkg": 25.5 * STEP,
        "FP": 25.5 * STEP,
        "Miss": 50 - 25.5 * STEP,
        "FN": 50 - 25.5 * STEP,
    }
    assert gains(measured) == pytest.approx(expected)
    assert counts(measured) == dict.fromkeys(ERRORS, 0) | dict.fromkeys(
        ("Bkg", "Miss", "FP", "FN"), 1
    )


def test_a_bad_place_that_hides_an_object_is_not_a_miss():
    measured = measure(coco([(1, CAT, OBJECT)]), [detection(1, CAT, TENTH, 0.9)])
    assert counts(measured) == dict.fromkeys(ERRORS, 0) | {"Loc": 1, "FP": 1, "FN": 1}
    assert gains(measured)["Loc"] == pytest.approx(100)
    assert gains(measured)["Miss"] == 0


def test_only_the_best_of_those_that_aim_at_an_object_is_mended():
    truth = coco([(1, CAT, OBJECT), (2, CAT, OBJECT)], images=(1, 2))
    found = [
        detection(1, DOG, OBJECT, 0.9),
        detection(1, CAT, TENTH, 0.8),
        detection(2, CAT, OBJECT, 0.7),
    ]
    measured = measure(truth, found)
    # Of dogs there are none: with the detection of one their AP is 0, without it they do not count.
    assert measured.ap[0] == pytest.approx(25.5 * STEP / 2)
    # The Cls error is the best for its cat; mended it ranks first, the Loc error is still wrong.
    mended = (51 * STEP / 100) + 50 * STEP / 100 * 2 / 3
    assert gains(measured)["Cls"] == pytest.approx(100 * mended - 25.5 * STEP / 2)
    # The Loc error is only taken away.
    assert gains(measured)["Loc"] == pytest.approx((51 - 25.5) * STEP / 2)


def test_duplicates_cost_what_their_removal_gains():
    truth = coco([(1, CAT, OBJECT), (2, CAT, OBJECT)], images=(1, 2))
    found = [
        detection(1, CAT, OBJECT, 0.9),
        detection(1, CAT, OBJECT, 0.8),
        detection(2, CAT, OBJECT, 0.7),
    ]
    measured = measure(truth, found)
    assert gains(measured)["Dupe"] == pytest.approx(50 * STEP / 3)
    assert counts(measured)["Dupe"] == 1


def test_what_lies_in_a_crowd_of_its_class_costs_nothing():
    boxes = [(1, CAT, OBJECT), (1, CAT, (40, 40, 100, 100), {"iscrowd": 1})]
    inside = (50, 50, 10, 10)
    measured = measure(
        coco(boxes), [detection(1, CAT, inside, 0.95), detection(1, CAT, OBJECT, 0.9)]
    )
    assert measured.ap[0] == pytest.approx(100)
    assert measured.gains.max() == 0
    assert counts(measured)["FP"] == 0
    other = measure(coco(boxes), [detection(1, DOG, inside, 0.95), detection(1, CAT, OBJECT, 0.9)])
    assert counts(other)["FP"] == 1


def test_the_hundred_best_of_an_image_count_over_all_classes():
    truth = coco([(1, CAT, OBJECT)])
    stray = [detection(1, DOG, ELSEWHERE, 0.5 + rank / 1000) for rank in range(100)]
    measured = measure(truth, [*stray, detection(1, CAT, OBJECT, 0.4)])
    assert counts(measured) == dict.fromkeys(ERRORS, 0) | {"Bkg": 100, "FP": 100} | dict.fromkeys(
        ("Miss", "FN"), 1
    )


def perfect(generator, images=6, each=5):
    """Return objects of two classes apart from each other, and a detection of each, by score."""
    boxes = [
        (image, int(generator.choice([CAT, DOG])), (40 * place, 0, 20, int(height)))
        for image in range(1, images + 1)
        for place, height in enumerate(generator.integers(9, 30, each))
    ]
    found = [detection(*box, float(generator.uniform(0.5, 1))) for box in boxes]
    return coco(boxes, range(1, images + 1)), found


@pytest.mark.parametrize("iou", THRESHOLDS)
def test_perfect_detections_have_no_errors(iou):
    measured = measure(*perfect(np.random.default_rng(0)), iou)
    assert measured.ap[0] == pytest.approx(100)
    assert np.abs(measured.gains).max() == pytest.approx(0)
    assert measured.counts.max() == 0


def test_where_only_labels_are_wrong_the_classes_cost_all_that_is_missing():
    generator = np.random.default_rng(1)
    truth, found = perfect(generator)
    for item in found:
        if generator.random() < 0.5:
            item["category_id"] = CAT + DOG - item["category_id"]
    measured = measure(truth, found)
    assert 0 < measured.ap[0] < 100
    assert gains(measured)["Cls"] == pytest.approx(100 - measured.ap[0])


def test_every_detection_twice_adds_exactly_duplicates():
    truth, found = perfect(np.random.default_rng(2))
    again = [item | {"score": item["score"] / 2} for item in found]
    measured = measure(truth, found + again)
    assert counts(measured) == dict.fromkeys(ERRORS, 0) | dict.fromkeys(("Dupe", "FP"), len(found))
    assert measured.ap[0] == pytest.approx(100)


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_the_list_and_of_the_images_changes_nothing(seed):
    generator = np.random.default_rng(seed)
    truth, found, _ = random_input(generator, tied=False)
    one = measure(truth, found)
    shuffled = truth | {"images": truth["images"][::-1]}
    other = measure(shuffled, [found[place] for place in generator.permutation(len(found))])
    np.testing.assert_allclose(one.gains, other.gains)
    np.testing.assert_allclose(one.ap, other.ap)
    np.testing.assert_array_equal(one.counts, other.counts)


def test_counts_are_of_the_class_that_is_named_or_missed():
    truth = coco([(1, CAT, OBJECT), (1, DOG, ELSEWHERE)])
    measured = measure(truth, [detection(1, DOG, OBJECT, 0.9)])
    cats, dogs = measured.counts.T
    assert dict(zip(ERRORS, dogs.tolist(), strict=True))["Cls"] == 1
    assert dict(zip(ERRORS, cats.tolist(), strict=True))["Cls"] == 0
    assert dogs[MAIN.index("Miss")] == 1
    assert cats[ERRORS.index("FN")] == 1


def test_a_class_without_objects_has_no_ap_of_its_own():
    measured = measure(coco([(1, CAT, OBJECT)]), [detection(1, CAT, OBJECT, 0.9)])
    assert measured.by_class[0] == pytest.approx(100)
    assert np.isnan(measured.by_class[1])


def test_of_nothing_to_find_the_background_is_all_there_is():
    measured = measure(coco([]), [detection(1, CAT, OBJECT, 0.9)])
    assert measured.ap[0] == 0
    assert gains(measured) == dict.fromkeys(ERRORS, 0.0) | {"Bkg": 100.0}
    nothing = measure(coco([]), [])
    assert np.isnan(nothing.ap[0]) and np.isnan(nothing.gains).all()
    assert nothing.counts.sum() == 0
