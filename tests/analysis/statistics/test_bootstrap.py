"""AP of weighted images is AP of the images repeated; intervals are of the same resamples."""

import numpy as np
import pytest

from analysis.matching.matching import match, pair
from analysis.statistics import bootstrap
from analysis.statistics.bootstrap import (
    average_precision,
    percentile_interval,
    rank,
    resample,
    tally,
)
from kd.evaluation.metrics import evaluate
from tests.support.scenes import coco, detection, random_input, repeated

CAT = 3


def weighted(pairing, weights, iou=0.5):
    """Return (K, R) AP at an IoU, 0 to 1, NaN without objects."""
    found, objects = pairing.detections, pairing.objects
    matches = match(pairing, iou)
    size = (len(pairing.classes), len(pairing.images))
    order = np.argsort(-found.score, kind="stable")
    order = order[~matches.ignored[order]]
    ranked = rank(found.image[order], found.label[order], matches.right[order], *size)
    counted = matches.counted
    wanted = tally(objects.image[counted], objects.label[counted], *size) @ weights
    return np.where(wanted > 0, average_precision(ranked, weights, wanted), np.nan)


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_repetitions(seed):
    truth, found, _ = random_input(np.random.default_rng(seed), tied=False)
    weights = resample(len(truth["images"]), 5, seed)
    values = weighted(pair(truth, found), weights)
    for column, counts in enumerate(weights.T):
        scene = pair(*repeated(truth, found, counts))
        expected = weighted(scene, np.ones((len(scene.images), 1)))[:, 0]
        np.testing.assert_allclose(values[:, column], expected)


@pytest.mark.parametrize("seed", range(20))
def test_equal_weights_give_the_ap_of_the_evaluator(seed):
    truth, found, _ = random_input(np.random.default_rng(seed), tied=False)
    pairing = pair(truth, found)
    values = weighted(pairing, np.ones((len(truth["images"]), 1)))[:, 0]
    theirs = evaluate(truth, found, pairing.classes).per_class
    expected = [theirs[name].AP50 for name in pairing.classes]
    np.testing.assert_allclose(values, np.array(expected, dtype=float), atol=1e-6)


def test_by_hand():
    truth = coco([(1, CAT, (0, 0, 9, 9)), (2, CAT, (0, 0, 9, 9))], images=(1, 2))
    found = [detection(1, CAT, (50, 50, 9, 9), 0.9), detection(2, CAT, (0, 0, 9, 9), 0.8)]
    weights = np.array([[1, 2, 0], [1, 0, 2]])
    cat, dog = weighted(pair(truth, found), weights)
    assert cat == pytest.approx([51 / 101 / 2, 0, 1])
    assert np.isnan(dog).all()


def test_chunks_change_nothing(monkeypatch):
    truth, found, _ = random_input(np.random.default_rng(3), tied=False)
    weights = resample(len(truth["images"]), 20, 0)
    at_once = weighted(pair(truth, found), weights)
    monkeypatch.setattr(bootstrap, "CELLS", 1)
    np.testing.assert_array_equal(weighted(pair(truth, found), weights), at_once)


def test_resamples_draw_as_many_images_and_begin_with_each_once():
    weights = resample(7, 50, 0)
    assert weights.shape == (7, 51)
    assert (weights[:, 0] == 1).all()
    assert (weights.sum(axis=0) == 7).all()
    np.testing.assert_array_equal(weights, resample(7, 50, 0))
    assert (weights != resample(7, 50, 1)).any()


def test_an_interval_leaves_out_the_same_share_at_either_end():
    samples = np.arange(101.0)
    low, high = percentile_interval(np.stack([samples, -samples]), 0.9)
    assert low == pytest.approx([5, -95]) and high == pytest.approx([95, -5])


def test_undefined_resamples_are_left_out_and_one_is_not_enough():
    samples = np.array([[1.0, np.nan, 3.0], [2.0, 2.0, 2.0]])
    assert np.array(percentile_interval(samples, 0.5)) == pytest.approx(
        np.array([[1.5, 2], [2.5, 2]])
    )
    assert np.isnan(percentile_interval(samples[:, :2], 0.5)).all()
    assert np.isnan(percentile_interval(samples[:, :0], 0.5)).all()
