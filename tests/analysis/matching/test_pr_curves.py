"""Pairings of runs, and precision-recall curves of their matches against pycocotools."""

import numpy as np
import pytest

from analysis.matching.pairings import read_pairing
from analysis.matching.pr_curves import curves
from kd.common.errors import UserError
from kd.evaluation.matching import AREAS, match, pair
from tests.analysis.fakes import write_detections, write_run
from tests.support.scenes import coco, random_input, reference

THRESHOLDS = [0.1, 0.5, 0.75, 0.95]
SQUARE = (0, 0, 10, 10)


@pytest.mark.parametrize("tied", [False, True])
def test_curves_are_those_of_pycocotools(tied):
    generator = np.random.default_rng(40 + tied)
    for _ in range(15):
        truth, detections, _ = random_input(generator, tied)
        names = [category["name"] for category in truth["categories"]]
        engine = reference(truth, detections, names, THRESHOLDS)
        pairing = pair(truth, detections)
        for area, name in enumerate(AREAS):
            for t, threshold in enumerate(THRESHOLDS):
                curve = curves(pairing, match(pairing, threshold, AREAS[name]))
                precision = engine.eval["precision"][t, :, :, area, -1].T
                assert np.abs(np.nan_to_num(curve, nan=-1) - precision).max() < 1e-12


def test_a_class_without_objects_has_no_curve():
    pairing = pair(coco([(1, 3, SQUARE)]), [])
    assert np.isnan(curves(pairing, match(pairing))).all(axis=1).tolist() == [False, True]


def test_detections_of_a_run_must_have_ids_of_the_ground_truth(tmp_path):
    run = write_run(tmp_path / "run")
    truth = coco([(7, 3, SQUARE), (7, 6, SQUARE)], images=(7,))
    write_detections(run, [(7, 1, list(SQUARE), 0.9)])
    pairing = read_pairing(run, truth)
    assert pairing.classes[pairing.detections.label[0]] == "dog"
    assert pairing.objects.place[match(pairing).object].tolist() == [1]
    write_detections(run, [(8, 1, list(SQUARE), 0.9)])
    with pytest.raises(UserError, match=r"detections\.json\.gz: image 8 is not in"):
        read_pairing(run, truth)
