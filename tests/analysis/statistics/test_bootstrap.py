"""AP of weighted images equals AP of repeated images; intervals are percentiles."""

import numpy as np
import pytest

from analysis.statistics import bootstrap
from analysis.statistics.bootstrap import (
    average_precision,
    percentile_interval,
    rank,
    resample,
    tally,
)
from kd.evaluation.matching import match, pair
from kd.evaluation.metrics import evaluate
from tests.support.scenes import coco, detection, random_input, repeated

CAT = 3


def weighted(pairing, weights, iou=0.5):
    """Return (K, R) AP at an IoU, 0 to 1, NaN without objects."""
    detections, objects = pairing.detections, pairing.objects
    matches = match(pairing, iou)
    size = (len(pairing.classes), len(pairing.images))
    order = np.argsort(-detections.score, kind="stable")
    order = order[~matches.ignored[order]]
    ranked = rank(detections.image[order], detections.label[order], matches.right[order], *size)
    count = matches.counted_objects
    totals = tally(objects.image[count], objects.label[count], *size) @ weights
    return np.where(totals > 0, average_precision(ranked, weights, totals), np.nan)


@pytest.mark.parametrize("seed", range(20))
def test_a_weight_repeats_an_image(seed):
    truth, results, _ = random_input(np.random.default_rng(seed), tied=False)
    weights = resample(len(truth["images"]), 5, seed)
    values = weighted(pair(truth, results), weights)
    for column, counts in enumerate(weights.T):
        scene = pair(*repeated(truth, results, counts))
        expected = weighted(scene, np.ones((len(scene.images), 1)))[:, 0]
        np.testing.assert_allclose(values[:, column], expected)


@pytest.mark.parametrize("seed", range(20))
def test_equal_weights_give_the_ap_of_the_evaluator(seed):
    truth, results, _ = random_input(np.random.default_rng(seed), tied=False)
    pairing = pair(truth, results)
    values = weighted(pairing, np.ones((len(truth["images"]), 1)))[:, 0]
    theirs = evaluate(truth, results, pairing.classes).per_class
    expected = [theirs[name].AP50 for name in pairing.classes]
    np.testing.assert_allclose(values, np.array(expected, dtype=float), atol=1e-6)


def test_precision_counted_by_hand():
    truth = coco([(1, CAT, (0, 0, 9, 9)), (2, CAT, (0, 0, 9, 9))], images=(1, 2))
    results = [detection(1, CAT, (50, 50, 9, 9), 0.9), detection(2, CAT, (0, 0, 9, 9), 0.8)]
    weights = np.array([[1, 2, 0], [1, 0, 2]])
    cat, dog = weighted(pair(truth, results), weights)
    assert cat == pytest.approx([51 / 101 / 2, 0, 1])
    assert np.isnan(dog).all()


def test_chunks_do_not_change_ap(monkeypatch):
    truth, results, _ = random_input(np.random.default_rng(3), tied=False)
    weights = resample(len(truth["images"]), 20, 0)
    at_once = weighted(pair(truth, results), weights)
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 1)
    np.testing.assert_array_equal(weighted(pair(truth, results), weights), at_once)


def test_a_resample_draws_as_many_images_and_the_first_column_has_each_once():
    weights = resample(7, 50, 0)
    assert weights.shape == (7, 51)
    assert (weights[:, 0] == 1).all()
    assert (weights.sum(axis=0) == 7).all()
    np.testing.assert_array_equal(weights, resample(7, 50, 0))
    assert (weights != resample(7, 50, 1)).any()


def test_an_interval_excludes_equal_shares_at_both_ends():
    samples = np.arange(101.0)
    low, high = percentile_interval(np.stack([samples, -samples]), 0.9)
    assert low == pytest.approx([5, -95]) and high == pytest.approx([95, -5])


def test_undefined_resamples_are_ignored_and_one_gives_no_interval():
    samples = np.array([[1.0, np.nan, 3.0], [2.0, 2.0, 2.0]])
    assert np.array(percentile_interval(samples, 0.5)) == pytest.approx(
        np.array([[1.5, 2], [2.5, 2]])
    )
    assert np.isnan(percentile_interval(samples[:, :2], 0.5)).all()
    assert np.isnan(percentile_interval(samples[:, :0], 0.5)).all()
