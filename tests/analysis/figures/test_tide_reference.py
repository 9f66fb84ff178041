"""TIDE against tidecv: cost and number of every error, and AP, at every threshold."""

import numpy as np
import pytest
from matplotlib import rc_context
from tidecv import TIDE, datasets

from analysis.figures.tide.errors import MAIN, THRESHOLDS, measure_errors, overlaps_of
from analysis.statistics.bootstrap import resample
from kd.common.files import write_json
from kd.evaluation.matching import pair
from tests.analysis.figures.tidecv_reference import ground_truth, reference, results
from tests.support.scenes import coco, detection, random_input

EQUAL = 1e-4


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    """Set tidecv's folder, and restore the matplotlib settings that it changes."""
    monkeypatch.setenv("TIDE_PATH", str(tmp_path))
    with rc_context():
        yield


def measure(truth, detections, iou, background=0.1):
    return measure_errors(
        overlaps_of(pair(truth, detections), background), iou, resample(len(truth["images"]), 0, 0)
    )


def crowded(generator, images, classes, most):
    """Return close boxes, some of them crowds, and up to ``most`` detections per image.

    The last class has detections and no object.
    """
    boxes, detections = [], []
    for image in range(1, images + 1):
        count = int(generator.integers(0, 8))
        where = np.hstack(
            [generator.uniform(0, 80, (count, 2)), generator.uniform(8, 60, (count, 2))]
        )
        labels = generator.integers(1, max(classes, 2), count)
        boxes += [
            (image, 3 * int(label), box, {"iscrowd": int(generator.random() < 0.1)})
            for label, box in zip(labels, where.tolist(), strict=True)
        ]
        for _ in range(generator.integers(0, most)):
            source = int(generator.integers(0, count)) if count else None
            box = [5.0, 5.0, 20.0, 20.0] if source is None else where[source]
            label = labels[source] if count and generator.random() < 0.7 else None
            label = label or generator.integers(1, classes + 1)
            near = np.abs(box * generator.normal(1, 0.12, 4)).tolist()
            detections.append(detection(image, 3 * int(label), near, float(generator.random())))
    names = [f"class {number}" for number in range(classes)]
    return coco(boxes, range(1, images + 1), names), detections


def require_equal(truth, detections, *thresholds):
    ours, theirs = (
        measure(truth, detections, *thresholds),
        reference(truth, detections, *thresholds),
    )
    assert ours.ap[0] == pytest.approx(theirs.ap, abs=EQUAL)
    np.testing.assert_allclose(ours.gains[:, 0], theirs.gains, atol=EQUAL)
    assert ours.counts[: len(MAIN)].sum(axis=1).tolist() == theirs.counts


@pytest.mark.parametrize("iou", [0.5, 0.75, 0.95])
@pytest.mark.parametrize(("classes", "most"), [(1, 40), (2, 40), (5, 40), (3, 260)])
def test_costs_and_numbers_equal_those_of_tidecv(classes, most, iou):
    require_equal(*crowded(np.random.default_rng(classes + most), 15, classes, most), iou)


@pytest.mark.parametrize("background", [0.2, 0.45])
def test_the_background_threshold_equals_that_of_tidecv(background):
    require_equal(*crowded(np.random.default_rng(9), 15, 3, 40), 0.5, background)


@pytest.mark.parametrize("seed", range(25))
def test_random_scenes_equal_those_of_tidecv(seed):
    truth, detections, _ = random_input(np.random.default_rng(seed), tied=False)
    if any(not item["iscrowd"] for item in truth["annotations"]) and detections:
        require_equal(truth, detections, 0.5)


def test_a_range_of_thresholds_has_the_ap_of_tidecv():
    truth, detections = crowded(np.random.default_rng(0), 10, 3, 40)
    tide = TIDE()
    tide.evaluate_range(ground_truth(truth), results(detections), name="run")
    theirs = [run.ap for run in tide.run_thresholds["run"]]
    assert [run.pos_thresh for run in tide.run_thresholds["run"]] == list(THRESHOLDS)
    np.testing.assert_allclose(
        [measure(truth, detections, iou).ap[0] for iou in THRESHOLDS], theirs, atol=EQUAL
    )


def test_all_objects_are_missed_without_detections_where_tidecv_fails():
    truth = coco([(1, 3, (0, 0, 10, 10))])
    with pytest.raises(ZeroDivisionError):
        reference(truth, [], 0.5)
    ours = measure(truth, [], 0.5)
    assert ours.ap[0] == 0
    assert ours.gains[:, 0].tolist() == [0, 0, 0, 0, 0, 100, 0, 100]


def test_tidecv_needs_segmentation_in_files_and_has_equal_results(tmp_path):
    truth, detections = crowded(np.random.default_rng(1), 6, 3, 20)
    for image in truth["images"]:
        image["file_name"] = "one.png"
    files = [tmp_path / "truth.json", tmp_path / "detections.json"]
    write_json(files[0], truth)
    write_json(files[1], detections)
    with pytest.raises(KeyError, match="segmentation"):
        datasets.COCO(str(files[0]))
    for item in truth["annotations"]:
        x, y, width, height = item["bbox"]
        item["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    write_json(files[0], truth)
    run = TIDE().evaluate(datasets.COCO(str(files[0])), datasets.COCOResult(str(files[1])))
    assert run.ap == reference(truth, detections, 0.5).ap
