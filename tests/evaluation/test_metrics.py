"""The evaluator against pycocotools, which is the reference for every COCO figure."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest

from kd.common.errors import UserError
from kd.evaluation.metrics import COCO_METRICS, Metrics, evaluate
from tests.support.scenes import coco, detection, random_input, reference

TOLERANCE = 1e-12


def defined(values):
    values = values[values > -1]
    return values.mean() if values.size else None


def assert_equals_pycocotools(truth, detections, classes=("cat", "dog")):
    """Compare the twelve figures and the AP and AP50 of each class; return our metrics."""
    engine = reference(truth, detections, classes)
    metrics = evaluate(truth, detections, classes)
    theirs = [None if figure == -1 else figure for figure in engine.stats]
    ours = [getattr(metrics, name) for name in COCO_METRICS]
    assert ours == pytest.approx(theirs, abs=TOLERANCE)
    for name in classes:
        category = next(item["id"] for item in truth["categories"] if item["name"] == name)
        index = engine.params.catIds.index(category)
        precision = engine.eval["precision"][:, :, index, 0, 2]
        one = metrics.per_class[name]
        assert pytest.approx(defined(precision), abs=TOLERANCE) == one.AP
        assert pytest.approx(defined(precision[0]), abs=TOLERANCE) == one.AP50
    return metrics


SQUARE = (10, 20, 40, 40)
BORDER = [(0, 0, 32, 32), (50, 0, 96, 96), (200, 0, 31, 33), (0, 200, 97, 95)]
ADVERSARIAL = {
    "crowd": (
        [(1, 3, (0, 0, 200, 200), {"iscrowd": 1}), (1, 3, (10, 10, 20, 20))],
        [(1, 3, (30 * i, 30, 25, 25), 0.9 - i / 10) for i in range(6)]
        + [(1, 3, (10, 10, 20, 20), 0.5)],
    ),
    "only a crowd": ([(1, 3, (0, 0, 200, 200), {"iscrowd": 1})], [(1, 3, SQUARE, 0.9)]),
    "difficult counts as ordinary": (
        [(1, 3, SQUARE, {"ignore": 1}), (1, 3, (100, 100, 40, 40))],
        [(1, 3, (100, 100, 40, 40), 0.9)],
    ),
    "empty images": (
        [(2, 3, SQUARE)],
        [(1, 3, SQUARE, 0.9), (2, 3, SQUARE, 0.8), (3, 6, SQUARE, 0.7)],
    ),
    "score ties": (
        [(image, 3, SQUARE) for image in (1, 2, 3)],
        [
            (3, 3, (0, 0, 9, 9), 0.5),
            (2, 3, SQUARE, 0.5),
            (1, 3, (0, 0, 9, 9), 0.5),
            (3, 3, SQUARE, 0.5),
        ],
    ),
    "ties among overlapping boxes": (
        [(1, 3, SQUARE), (1, 3, (14, 20, 40, 40))],
        [
            (1, 3, (12, 20, 40, 40), 0.5),
            (1, 3, (10, 20, 40, 40), 0.5),
            (1, 3, (13, 20, 40, 40), 0.5),
        ],
    ),
    "absent category": ([(1, 3, SQUARE)], [(1, 3, SQUARE, 0.9), (1, 6, SQUARE, 0.8)]),
    "zero-area box": (
        [(1, 3, (5, 5, 0, 10)), (1, 3, SQUARE)],
        [(1, 3, (5, 5, 0, 10), 0.9), (1, 3, SQUARE, 0.8)],
    ),
    "over 100 detections": (
        [(1, 3, SQUARE), (1, 6, SQUARE)],
        [(1, 3, (300 + i, 0, 9, 9), 0.99 - i / 1000) for i in range(120)]
        + [(1, 3, SQUARE, 0.1), (1, 6, SQUARE, 0.1)],
    ),
    "duplicates": (
        [(1, 3, SQUARE), (2, 3, SQUARE)],
        [(1, 3, SQUARE, 0.9)] * 3 + [(2, 3, SQUARE, 0.8)] * 2,
    ),
    "size borders": (
        [(1, 3, box) for box in BORDER],
        [(1, 3, box, 0.9 - i / 10) for i, box in enumerate(BORDER)]
        + [(2, 3, box, 0.5) for box in BORDER],
    ),
    "IoU of exactly one half": ([(1, 3, (0, 0, 20, 10))], [(1, 3, (0, 0, 10, 10), 0.9)]),
    "area of the mask, not of the box": (
        [(1, 3, SQUARE, {"area": 900.0}), (2, 3, SQUARE, {"area": 1024.0})],
        [(1, 3, SQUARE, 0.9), (2, 3, SQUARE, 0.8)],
    ),
    "negative scores": ([(1, 3, SQUARE)], [(1, 3, (0, 0, 9, 9), -1.0), (1, 3, SQUARE, -2.0)]),
    "no detections": ([(1, 3, SQUARE)], []),
    "no boxes": ([], [(1, 3, SQUARE, 0.9)]),
    "nothing": ([], []),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_input_equals_pycocotools(name):
    boxes, results = ADVERSARIAL[name]
    truth = coco(boxes, images=(1, 2, 3))
    assert_equals_pycocotools(truth, [detection(*item) for item in results])


@pytest.mark.parametrize("tied", [False, True])
def test_random_input_equals_pycocotools(tied):
    generator = np.random.default_rng(20 + tied)
    for _ in range(60):
        assert_equals_pycocotools(*random_input(generator, tied))


def test_perfect_detections_are_one():
    boxes = [(1, 3, (0, 0, 20, 20)), (1, 6, (50, 50, 50, 50)), (2, 3, (9, 9, 200, 200))]
    truth = coco(boxes, images=(1, 2))
    metrics = assert_equals_pycocotools(truth, [detection(*box, 0.9) for box in boxes])
    figures = metrics.model_dump()
    assert [figures[name] for name in (*COCO_METRICS, "VOC07", "VOC12")] == pytest.approx(
        [1.0] * 14
    )
    assert (metrics.images, metrics.boxes, metrics.detections) == (2, 3, 3)


def test_absent_figures_are_none():
    metrics = evaluate(coco([(1, 3, (0, 0, 20, 20))]), [], ["cat", "dog"])
    assert (metrics.AP, metrics.APS, metrics.APL) == (0.0, 0.0, None)
    assert (metrics.per_class["dog"].AP, metrics.per_class["dog"].VOC07) == (None, None)


def test_classes_choose_and_order():
    truth = coco([(1, 3, SQUARE), (1, 6, SQUARE)])
    metrics = assert_equals_pycocotools(truth, [detection(1, 6, SQUARE, 0.9)], ["dog"])
    assert (list(metrics.per_class), metrics.boxes) == (["dog"], 1)
    assert list(evaluate(truth, [], ["dog", "cat"]).per_class) == ["dog", "cat"]


def test_voc_ignores_what_is_difficult_and_coco_does_not():
    truth = coco([(1, 3, SQUARE, {"ignore": 1}), (1, 3, (100, 100, 40, 40), {"difficult": 1})])
    truth["annotations"].append(
        {**truth["annotations"][0], "id": 9, "bbox": [300, 9, 9, 9], "ignore": 0}
    )
    metrics = evaluate(truth, [detection(1, 3, (300, 9, 9, 9), 0.9)], ["cat"])
    assert (metrics.VOC07, metrics.VOC12) == (1.0, 1.0)
    assert pytest.approx(1 / 3) == metrics.AR100


def test_voc_map_is_the_mean_over_classes_with_boxes():
    truth = coco([(1, 3, SQUARE), (1, 6, SQUARE)], names=("cat", "dog", "emu"))
    metrics = evaluate(truth, [detection(1, 3, SQUARE, 0.9)], ["cat", "dog", "emu"])
    assert (metrics.VOC07, metrics.VOC12) == (0.5, 0.5)
    assert metrics.per_class["emu"].VOC12 is None


def test_ids_may_be_words_zero_or_repeated():
    """Annotation ids are numbered anew: 0, which pycocotools reads as unmatched, does no harm."""
    truth = coco([("b", 3, SQUARE), ("a", 3, SQUARE)], images=("b", "a"))
    for item in truth["annotations"]:
        item["id"] = 0
    results = [detection(name, 3, SQUARE, 0.9) for name in "ab"]
    assert pytest.approx(1.0) == evaluate(truth, results, ["cat"]).AP


def test_area_and_iscrowd_may_be_absent():
    truth = coco([(1, 3, SQUARE)])
    for key in ("area", "iscrowd", "id"):
        del truth["annotations"][0][key]
    assert pytest.approx(1.0) == evaluate(truth, [detection(1, 3, SQUARE, 0.9)], ["cat"]).APM


def test_inputs_stay_as_they_were():
    truth, results = coco([(1, 3, SQUARE)]), [detection(1, 3, SQUARE, 0.9)]
    before = copy.deepcopy((truth, results))
    evaluate(truth, results, ["cat"])
    assert (truth, results) == before


BAD_DETECTIONS = {
    "NaN score": (detection(1, 3, SQUARE, float("nan")), "detection 0 of image 1: score nan"),
    "infinite score": (detection(1, 3, SQUARE, float("inf")), "score inf is not finite"),
    "NaN box": (detection(1, 3, (0, 0, float("nan"), 1), 0.5), "bbox"),
    "short box": (detection(1, 3, (0, 0, 1), 0.5), "x, y, width, height"),
    "unknown image": (detection(77, 3, SQUARE, 0.5), "image id .* 77"),
    "unknown category": (detection(1, 44, SQUARE, 0.5), "category id .* 44"),
    "category left out": (detection(1, 6, SQUARE, 0.5), "category id .* 6"),
    "no score": ({"image_id": 1, "category_id": 3, "bbox": SQUARE}, "detection 0 has no 'score'"),
}


@pytest.mark.parametrize("name", BAD_DETECTIONS)
def test_bad_detection_is_named(name):
    bad, message = BAD_DETECTIONS[name]
    with pytest.raises(UserError, match=message):
        evaluate(coco([(1, 3, SQUARE)]), [bad], ["cat"])


BAD_TRUTHS = {
    "unknown class": (coco([]), ["cart"], "did you mean 'cat'"),
    "no class": (coco([]), [], "no class"),
    "class twice": (coco([]), ["cat", "cat"], "class 'cat' is listed twice"),
    "category twice": (coco([], names=("cat", "cat")), ["cat"], "category 'cat' is listed twice"),
    "image twice": (coco([], images=(1, 1)), ["cat"], "image id 1 is used twice"),
    "unknown image": (coco([(5, 3, SQUARE)]), ["cat"], "annotations whose image id .* 5"),
    "unknown category": (coco([(1, 5, SQUARE)]), ["cat"], "annotations whose category id .* 5"),
    "NaN area": (coco([(1, 3, SQUARE, {"area": float("nan")})]), ["cat"], "area nan"),
    "no list of images": ({"annotations": [], "categories": []}, ["cat"], "'images' is missing"),
}


@pytest.mark.parametrize("name", BAD_TRUTHS)
def test_bad_ground_truth_is_named(name):
    truth, classes, message = BAD_TRUTHS[name]
    with pytest.raises(UserError, match=message):
        evaluate(truth, [], classes)


def test_many_unknown_ids_are_summed_up():
    results = [detection(image, 3, SQUARE, 0.5) for image in range(10, 20)]
    with pytest.raises(UserError, match="10, 11, 12, 13, 14 and 5 more"):
        evaluate(coco([]), results, ["cat"])


def test_metrics_survive_json(tmp_path):
    metrics = evaluate(coco([(1, 3, SQUARE)]), [detection(1, 3, SQUARE, 0.9)], ["cat", "dog"])
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics.model_dump()))
    assert Metrics.read(path) == metrics
    assert Metrics.parse(metrics.model_dump(), "metrics") == metrics
    path.write_text('{"AP": 0.5}')
    with pytest.raises(UserError, match=r"metrics\.json: key 'AP50' is missing"):
        Metrics.read(path)


def test_nothing_is_printed_and_nothing_heavy_is_imported():
    code = (
        "import sys, kd.evaluation.metrics as e\n"
        "t = {'images': [{'id': 1}], 'categories': [{'id': 1, 'name': 'a'}], 'annotations': []}\n"
        "e.evaluate(t, [], ['a'])\n"
        "assert not {'torch', 'pycocotools', 'pandas', 'mmdet'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
