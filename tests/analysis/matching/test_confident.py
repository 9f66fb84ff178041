"""Right, wrong and missed from a score on, and the F1 of images."""

import numpy as np
import pytest

from analysis.matching.confident import best_score, count, match_run
from kd.evaluation.matching import pair
from tests.analysis.confident_scene import BOX, OTHER, SCENE, detection, outcome_of


def test_counts_and_f1_by_hand():
    """In image 1 one of two objects is detected: 2 / (2 + 1 + 1). Image 2 has a low score."""
    frame = count(outcome_of(SCENE, (1, 0, BOX, 0.9), (1, 0, OTHER, 0.8), (2, 0, BOX, 0.4)))
    assert frame["image"].tolist() == [1, 2, 3]
    assert frame[["right", "wrong", "missed"]].to_numpy().tolist() == [
        [1, 1, 1],
        [0, 0, 1],
        [0, 0, 0],
    ]
    assert frame["f1"].tolist() == pytest.approx([0.5, 0, np.nan], nan_ok=True)


def test_a_second_detection_of_an_object_is_wrong():
    frame = count(outcome_of(SCENE, (2, 0, BOX, 0.9), (2, 0, BOX, 0.8)))
    assert frame.loc[1, ["right", "wrong", "missed"]].tolist() == [1, 1, 0]


def test_the_iou_decides():
    shifted = [12, 4, 20, 20]  # 12 of 28 columns are shared: IoU 3/7
    assert count(outcome_of(SCENE, (2, 0, shifted, 0.9), iou=0.5))["right"].sum() == 0
    assert count(outcome_of(SCENE, (2, 0, shifted, 0.9), iou=0.4))["right"].sum() == 1


@pytest.mark.parametrize(
    ("detections", "best"),
    [
        # F1 of the first, the first two, all three: 1/2, 4/5, 2/3
        ([(1, 0, BOX, 0.9), (1, 1, OTHER, 0.7), (3, 0, BOX, 0.6)], 0.7),
        # equal scores count together: 2/5, then 2 * 2 / (4 + 1 + 1)
        ([(3, 0, BOX, 0.9), (1, 0, BOX, 0.9), (2, 0, BOX, 0.3)], 0.3),
        ([], 1.0),
        ([(3, 0, BOX, 0.9), (3, 0, BOX, 0.2)], 0.9),  # every score has F1 0
    ],
)
def test_each_run_counts_from_its_best_score_on(detections, best):
    assert outcome_of(SCENE, *detections, score=None).score == best


def test_the_best_score_is_the_best_of_all():
    rng = np.random.default_rng(0)
    detections = [
        (int(rng.integers(1, 4)), int(rng.integers(2)), [int(rng.integers(9)), 4, 20, 20], s)
        for s in rng.random(40).round(1)
    ]
    pairing = pair(SCENE, [detection(*values) for values in detections])
    matches = match_run("run", pairing, 0.3, 0.0).matches

    def f1(score):
        above = pairing.detections.score >= score
        right, wrong = (matches.right & above).sum(), (matches.wrong & above).sum()
        return 2 * right / (right + wrong + matches.counted_objects.sum())

    scores = pairing.detections.score
    best = best_score(scores, matches)
    assert f1(best) == max(f1(score) for score in scores)
    assert all(f1(score) < f1(best) for score in scores[scores > best])
