"""Metrics of resampled images equal those of a data set that repeats images."""

import numpy as np
import pytest

from analysis.matching.outcomes import MatchedRun
from analysis.statistics.bootstrap import COCO_RECALLS, resample
from analysis.statistics.resampled import METRICS, metrics
from kd.evaluation.metrics import evaluate
from tests.support.scenes import coco, detection, random_input, reference, repeated

CAT, DOG = 3, 6
SQUARE, FAR = (0, 0, 10, 10), (50, 50, 10, 10)


def naive(truth, results, counts):
    """Return AP and AP50 by pycocotools and VOC07 by the evaluator, of repeated images."""
    scene, detections = repeated(truth, results, counts)
    names = [category["name"] for category in truth["categories"]]
    stats = reference(scene, detections, names).stats
    voc = evaluate(scene, detections, names).VOC07
    return [
        *(value if value > -1 else np.nan for value in stats[:2]),
        np.nan if voc is None else voc,
    ]


def check(truth, results, weights):
    """Compare all metrics of all columns of the weights."""
    values = metrics(MatchedRun.of(truth, results), weights)
    expected = np.transpose([naive(truth, results, counts) for counts in weights.T])
    assert list(values) == list(METRICS)
    np.testing.assert_allclose(np.stack(list(values.values())), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_random_scenes_with_crowds_and_ties(seed, tied):
    truth, results, _ = random_input(np.random.default_rng(seed), tied)
    check(truth, results, resample(len(truth["images"]), 4, seed))


@pytest.mark.parametrize("objects", [20, 100])
def test_exact_recalls_of_hundredths(objects):
    """Two false detections precede each correct one, so precision falls at every hundredth."""
    images = range(1, objects + 1)
    truth = coco([(image, CAT, SQUARE) for image in images], images)
    results = []
    for image in images:
        results += [detection(image, CAT, FAR, 1 - image / 200)] * 2
        results += [detection(image, CAT, SQUARE, 1 - image / 200 - 1e-3)]
    weights = np.stack([np.ones(objects), np.arange(objects) % 2 * 2, np.full(objects, 3)], axis=1)
    check(truth, results, weights)
    grid = np.arange(101) / 100
    assert np.count_nonzero(grid < COCO_RECALLS) == 10  # else this test checks nothing


def test_classes_without_objects_or_without_detections():
    boxes = [(1, CAT, SQUARE), (2, DOG, SQUARE), (2, DOG, FAR, {"iscrowd": 1})]
    truth = coco(boxes, images=(1, 2, 3), names=("cat", "dog", "cow"))
    results = [detection(1, CAT, SQUARE, 0.9), detection(3, 9, SQUARE, 0.8)]
    weights = np.array([[1, 3, 0, 0], [1, 0, 3, 0], [1, 0, 0, 3]])
    check(truth, results, weights)
    check(truth, [], weights)
    values = metrics(MatchedRun.of(truth, results), weights)
    assert values["AP"] == pytest.approx([0.5, 1, 0, np.nan], nan_ok=True)


def test_a_hundred_detections_of_an_image_and_class_count():
    truth = coco([(image, CAT, SQUARE) for image in (1, 2)], images=(1, 2))
    results = [detection(1, CAT, FAR, 0.9 - number / 1000) for number in range(99)]
    first, second = detection(1, CAT, SQUARE, 0.5), detection(2, CAT, SQUARE, 0.1)
    weights = np.array([[1, 2, 1], [1, 1, 2]])
    check(truth, [*results, first, second], weights)
    check(truth, [*results, detection(1, CAT, FAR, 0.6), first, second], weights)
    with_hit, without_hit = (
        metrics(MatchedRun.of(truth, [*results, *more, first]), weights)["AP"][0]
        for more in ([], [detection(1, CAT, FAR, 0.6)])
    )
    assert with_hit > without_hit == 0


def test_ties_of_one_image_rank_copy_by_copy():
    """By hand: wrong, right, wrong, right is precision 1/2 at both; not 1/3 and 2/4."""
    truth = coco([(1, CAT, SQUARE)], names=("cat",))
    results = [detection(1, CAT, FAR, 0.5), detection(1, CAT, SQUARE, 0.5)]
    weights = np.array([[1, 2, 3]])
    check(truth, results, weights)
    values = metrics(MatchedRun.of(truth, results), weights)
    assert values["AP50"] == pytest.approx([0.5, 0.5, 0.5])

    results.append(detection(1, CAT, SQUARE, 0.9))  # right, then wrong, wrong: 3 of 3 at best
    check(truth, results, weights)


def test_ties_of_three_in_two_images_by_hand():
    """Image 1 drawn twice: right wrong, right wrong, then image 2's: 1, 2/3, 3/5 at thirds."""
    truth = coco([(image, CAT, SQUARE) for image in (1, 2)], images=(1, 2), names=("cat",))
    results = [
        detection(2, CAT, SQUARE, 0.5),
        detection(1, CAT, SQUARE, 0.5),
        detection(1, CAT, FAR, 0.5),
    ]
    weights = np.array([[2], [1]])
    check(truth, results, weights)
    (ap,) = metrics(MatchedRun.of(truth, results), weights)["AP50"]
    assert ap == pytest.approx((34 * 1 + 33 * 2 / 3 + 34 * 3 / 5) / 101)
