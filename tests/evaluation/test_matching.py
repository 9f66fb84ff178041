"""Matching of detections to objects, against pycocotools and by hand."""

import numpy as np
import pytest

from kd.evaluation import matching
from kd.evaluation.detections import read
from kd.evaluation.matching import AREAS, UNMATCHED, candidates, match, pair, pair_columns
from tests.support.scenes import coco, detection, random_input, reference

THRESHOLDS = [0.1, 0.5, 0.75, 0.95]
SQUARE = (0, 0, 10, 10)


def matched_objects(truth, detections, iou=0.5, area="all"):
    """Return each detection's annotation and ignore flag, in the order of the list."""
    pairing = pair(truth, detections)
    matches = match(pairing, iou, AREAS[area])
    back = np.argsort(pairing.detections.place)
    places = np.append(pairing.objects.place, UNMATCHED)[matches.object]
    return places[back].tolist(), matches.ignored[back].tolist()


def expected(engine, images, index, area, threshold):
    """Return pycocotools' matched annotation and ignore flag of each detection of one class."""
    expected_matches = {}
    start = (index * len(AREAS) + area) * images
    for image in filter(None, engine.evalImgs[start : start + images]):
        values = zip(
            image["dtIds"], image["dtMatches"][threshold], image["dtIgnore"][threshold], strict=True
        )
        expected_matches |= {
            number - 1: (int(gt) - 1, bool(ignored)) for number, gt, ignored in values
        }
    return expected_matches


@pytest.mark.parametrize("tied", [False, True])
def test_matches_are_those_of_pycocotools(tied):
    generator = np.random.default_rng(40 + tied)
    for _ in range(25):
        truth, detections, _ = random_input(generator, tied)
        names = [category["name"] for category in truth["categories"]]
        engine = reference(truth, detections, names, THRESHOLDS)
        pairing = pair(truth, detections)
        for area, name in enumerate(AREAS):
            for t, threshold in enumerate(THRESHOLDS):
                matches = match(pairing, threshold, AREAS[name])
                places = np.append(pairing.objects.place, UNMATCHED)[matches.object]
                ours = dict(
                    zip(
                        pairing.detections.place.tolist(),
                        zip(places.tolist(), matches.ignored.tolist(), strict=True),
                        strict=True,
                    )
                )
                theirs = {}
                for index in range(len(names)):
                    theirs |= expected(engine, len(truth["images"]), index, area, t)
                assert ours == theirs


def test_pairs_have_any_classes_with_iou_and_cover():
    boxes = [(1, 3, SQUARE), (1, 6, (5, 0, 10, 10)), (2, 3, SQUARE), (1, 3, (0, 0, 100, 100))]
    detections = [detection(1, 3, SQUARE, 0.5), detection(1, 6, (9, 0, 10, 10), 0.5)]
    pairing = pair(coco(boxes, images=(1, 2)), detections)
    pairs = pairing.pairs
    assert pairs.detection.tolist() == [0, 0, 0, 1, 1, 1]
    assert pairing.objects.place[pairs.object].tolist() == [0, 1, 3, 0, 1, 3]
    assert pairs.iou == pytest.approx([1, 50 / 150, 0.01, 10 / 190, 60 / 140, 0.01])
    assert pairs.cover == pytest.approx([1, 0.5, 1, 0.1, 0.6, 1])


def test_detections_are_sorted_by_label_score_image_and_place():
    results = [
        detection(2, 3, SQUARE, 0.5),
        detection(1, 6, SQUARE, 0.9),
        detection(1, 3, SQUARE, 0.5),
        detection(1, 3, SQUARE, 0.5),
        detection(2, 3, SQUARE, 0.7),
    ]
    detections = pair(coco([], images=(2, 1)), results).detections
    assert detections.place.tolist() == [4, 2, 3, 0, 1]
    assert detections.label.tolist() == [0, 0, 0, 0, 1]
    assert detections.image.tolist() == [1, 0, 0, 1, 0]


def test_a_better_score_replaces_a_match_and_the_loser_gets_its_next_preference():
    boxes = [(1, 3, SQUARE), (1, 3, (2, 0, 10, 10)), (1, 3, (4, 0, 10, 10))]
    # The second prefers the first's object, then the third's, which gets the remaining one.
    detections = [
        detection(1, 3, (4, 0, 10, 10), 0.3),
        detection(1, 3, SQUARE, 0.9),
        detection(1, 3, (0.5, 0, 10, 10), 0.6),
    ]
    assert matched_objects(coco(boxes), detections)[0] == [2, 0, 1]
    assert matched_objects(coco(boxes[:2]), detections)[0] == [UNMATCHED, 0, 1]


def test_the_last_of_equal_overlaps_is_matched():
    truth = coco([(1, 3, SQUARE), (1, 3, SQUARE)])
    assert matched_objects(truth, [detection(1, 3, SQUARE, 0.9)])[0] == [1]


def test_an_ignored_object_is_matched_only_if_no_other_is_free():
    crowd = (1, 3, SQUARE, {"iscrowd": 1})
    detections = [detection(1, 3, SQUARE, score) for score in (0.9, 0.8, 0.7)]
    truth = coco([crowd, (1, 3, (0, 0, 10, 8))])
    assert matched_objects(truth, detections) == ([1, 0, 0], [False, True, True])
    # An object outside the range of areas matches one detection; the others are outside as well.
    truth = coco([(1, 3, SQUARE)])
    assert matched_objects(truth, detections, area="medium") == (
        [0, UNMATCHED, UNMATCHED],
        [True] * 3,
    )


def test_a_range_of_areas_includes_both_its_ends():
    truth = coco([(1, 3, (0, 0, 32, 32))])
    detections = [detection(1, 3, (0, 0, 32, 32), 0.9)]
    ignored = {area: matched_objects(truth, detections, area=area)[1] for area in AREAS}
    assert ignored == {"all": [False], "small": [False], "medium": [False], "large": [True]}


def test_a_detection_lying_in_a_crowd_is_ignored():
    truth = coco([(1, 3, (0, 0, 100, 100), {"iscrowd": 1})])
    assert matched_objects(truth, [detection(1, 3, SQUARE, 0.9)]) == ([0], [True])


def test_at_most_a_hundred_of_an_image_and_class_count():
    scores = np.linspace(0.1, 0.9, 130)
    results = [detection(1, category, SQUARE, score) for score in scores for category in (3, 6)]
    detections = pair(coco([(1, 3, SQUARE)]), results).detections
    assert np.bincount(detections.label).tolist() == [100, 100]
    assert detections.score.min() == scores[30]


def test_objects_of_tolerated_classes_are_crowds():
    boxes = [(1, 3, SQUARE), (1, 6, (0, 0, 40, 40))]
    detections = [detection(1, 3, (20, 20, 10, 10), 0.9), detection(1, 3, (22, 20, 10, 10), 0.8)]
    pairing = pair(coco(boxes), detections)
    assert match(pairing, 0.1).wrong.tolist() == [True, True]
    tolerant = match(pairing, 0.1, candidate_pairs=candidates(pairing, ~np.eye(2, dtype=bool)))
    assert pairing.objects.place[tolerant.object].tolist() == [1, 1]
    assert tolerant.ignored.all() and not tolerant.wrong.any() and not tolerant.right.any()


@pytest.mark.parametrize("tied", [False, True])
def test_pairs_do_not_depend_on_the_size_of_a_chunk(tied, monkeypatch):
    truth, detections, _ = random_input(np.random.default_rng(2), tied)
    whole = pair(truth, detections).pairs
    monkeypatch.setattr(matching, "CHUNK", 7)
    parts = pair(truth, detections).pairs
    assert len(whole.iou) > 7  # several chunks
    for column, values in vars(whole).items():
        assert np.array_equal(values, getattr(parts, column))


def test_pairs_of_one_class_give_the_same_matches():
    generator = np.random.default_rng(4)
    for _ in range(20):
        truth, detections, names = random_input(generator, tied=True)
        images, objects, columns = read(truth, detections, names)
        any_class, one_class = (
            pair_columns(images, names, objects, columns, 0.0, any_class=kind)
            for kind in (True, False)
        )
        assert len(one_class.pairs.iou) <= len(any_class.pairs.iou)
        for iou in (0.0, 0.5):
            first, second = match(any_class, iou), match(one_class, iou)
            assert np.array_equal(first.object, second.object)
            assert np.array_equal(first.overlap, second.overlap)


def test_permuting_detections_of_distinct_scores_changes_nothing():
    generator = np.random.default_rng(3)
    for _ in range(10):
        truth, detections, _ = random_input(generator, tied=False)
        order = generator.permutation(len(detections))
        before, ignored = matched_objects(truth, detections)
        after, ignored_after = matched_objects(truth, [detections[place] for place in order])
        assert len(before) == len(detections)
        assert after == [before[place] for place in order]
        assert ignored_after == [ignored[place] for place in order]


def test_a_duplicate_is_one_more_unmatched_detection():
    boxes = [(1, 3, SQUARE), (1, 6, (50, 50, 20, 20)), (2, 3, (9, 9, 40, 40))]
    truth = coco(boxes, images=(1, 2))
    detections = [detection(*box, 0.9) for box in boxes]
    once = match(pair(truth, detections), 0.5)
    twice = match(pair(truth, [*detections, {**detections[1], "score": 0.4}]), 0.5)
    assert (once.right.sum(), once.wrong.sum()) == (3, 0)
    assert (twice.right.sum(), twice.wrong.sum()) == (3, 1)


@pytest.mark.parametrize(
    ("boxes", "detections"),
    [
        ([], []),
        ([(2, 3, SQUARE)], []),
        ([], [detection(1, 3, SQUARE, 0.9)]),
        ([(2, 3, SQUARE)], [detection(1, 3, SQUARE, 0.9)]),
        ([(1, 3, SQUARE)], [detection(1, 3, (0, 0, 0, 0), 0.9)]),
    ],
    ids=["nothing", "no detection", "no object", "in different images", "of no area"],
)
def test_boxes_that_do_not_overlap_are_not_matched(boxes, detections):
    pairing = pair(coco(boxes, images=(1, 2, 3)), detections)
    matches = match(pairing)
    assert len(pairing.pairs.iou) == 0
    assert matches.object.tolist() == [UNMATCHED] * len(detections)
    assert matches.wrong.sum() == len(detections)
