"""What is matched to what, against pycocotools and by hand."""

import numpy as np
import pytest

from analysis.matching import matching
from analysis.matching.matching import AREAS, UNMATCHED, candidates, match, pair, read_pairing
from analysis.matching.pr_curves import curves
from kd.common.errors import UserError
from tests.analysis.fakes import write_detections, write_run
from tests.support.scenes import coco, detection, random_input, reference

THRESHOLDS = [0.1, 0.5, 0.75, 0.95]
SQUARE = (0, 0, 10, 10)


def matched(truth, found, iou=0.5, area="all"):
    """Return, in the order of the list, each detection's annotation and whether it is ignored."""
    pairing = pair(truth, found)
    matches = match(pairing, iou, AREAS[area])
    back = np.argsort(pairing.detections.place)
    places = np.append(pairing.objects.place, UNMATCHED)[matches.object]
    return places[back].tolist(), matches.ignored[back].tolist()


def expected(engine, images, index, area, threshold):
    """Return pycocotools' matched annotation and ignore flag of each detection of one class."""
    found = {}
    start = (index * len(AREAS) + area) * images
    for image in filter(None, engine.evalImgs[start : start + images]):
        values = zip(
            image["dtIds"], image["dtMatches"][threshold], image["dtIgnore"][threshold], strict=True
        )
        found |= {number - 1: (int(gt) - 1, bool(ignored)) for number, gt, ignored in values}
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_matches_and_curves_are_those_of_pycocotools(tied):
    generator = np.random.default_rng(40 + tied)
    for _ in range(25):
        truth, found, _ = random_input(generator, tied)
        names = [category["name"] for category in truth["categories"]]
        engine = reference(truth, found, names, THRESHOLDS)
        pairing = pair(truth, found)
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
                precision = engine.eval["precision"][t, :, :, area, -1].T
                drawn = np.nan_to_num(curves(pairing, matches), nan=-1)
                assert np.abs(drawn - precision).max() < 1e-12


def test_pairs_are_of_any_class_with_iou_and_cover():
    boxes = [(1, 3, SQUARE), (1, 6, (5, 0, 10, 10)), (2, 3, SQUARE), (1, 3, (0, 0, 100, 100))]
    found = [detection(1, 3, SQUARE, 0.5), detection(1, 6, (9, 0, 10, 10), 0.5)]
    pairing = pair(coco(boxes, images=(1, 2)), found)
    pairs = pairing.pairs
    assert pairs.detection.tolist() == [0, 0, 0, 1, 1, 1]
    assert pairing.objects.place[pairs.object].tolist() == [0, 1, 3, 0, 1, 3]
    assert pairs.iou == pytest.approx([1, 50 / 150, 0.01, 10 / 190, 60 / 140, 0.01])
    assert pairs.cover == pytest.approx([1, 0.5, 1, 0.1, 0.6, 1])


def test_detections_are_by_label_score_image_and_place():
    found = [
        detection(2, 3, SQUARE, 0.5),
        detection(1, 6, SQUARE, 0.9),
        detection(1, 3, SQUARE, 0.5),
        detection(1, 3, SQUARE, 0.5),
        detection(2, 3, SQUARE, 0.7),
    ]
    detections = pair(coco([], images=(2, 1)), found).detections
    assert detections.place.tolist() == [4, 2, 3, 0, 1]
    assert detections.label.tolist() == [0, 0, 0, 0, 1]
    assert detections.image.tolist() == [1, 0, 0, 1, 0]


def test_a_better_score_drives_out_and_the_loser_takes_its_next_choice():
    boxes = [(1, 3, SQUARE), (1, 3, (2, 0, 10, 10)), (1, 3, (4, 0, 10, 10))]
    # The second wants what the first has, then what the third wants, which takes what is left.
    found = [
        detection(1, 3, (4, 0, 10, 10), 0.3),
        detection(1, 3, SQUARE, 0.9),
        detection(1, 3, (0.5, 0, 10, 10), 0.6),
    ]
    assert matched(coco(boxes), found)[0] == [2, 0, 1]
    assert matched(coco(boxes[:2]), found)[0] == [UNMATCHED, 0, 1]


def test_of_equal_overlaps_the_last_object_is_taken():
    truth = coco([(1, 3, SQUARE), (1, 3, SQUARE)])
    assert matched(truth, [detection(1, 3, SQUARE, 0.9)])[0] == [1]


def test_an_ignored_object_is_taken_only_where_no_other_is_free():
    crowd = (1, 3, SQUARE, {"iscrowd": 1})
    found = [detection(1, 3, SQUARE, score) for score in (0.9, 0.8, 0.7)]
    truth = coco([crowd, (1, 3, (0, 0, 10, 8))])
    assert matched(truth, found) == ([1, 0, 0], [False, True, True])
    # One that is out of the range of areas takes a single detection; the others are out as well.
    truth = coco([(1, 3, SQUARE)])
    assert matched(truth, found, area="medium") == ([0, UNMATCHED, UNMATCHED], [True] * 3)


def test_a_range_of_areas_includes_both_its_ends():
    truth = coco([(1, 3, (0, 0, 32, 32))])
    found = [detection(1, 3, (0, 0, 32, 32), 0.9)]
    ignored = {area: matched(truth, found, area=area)[1] for area in AREAS}
    assert ignored == {"all": [False], "small": [False], "medium": [False], "large": [True]}


def test_a_detection_lying_in_a_crowd_is_ignored():
    truth = coco([(1, 3, (0, 0, 100, 100), {"iscrowd": 1})])
    assert matched(truth, [detection(1, 3, SQUARE, 0.9)]) == ([0], [True])


def test_at_most_a_hundred_of_an_image_and_class_count():
    scores = np.linspace(0.1, 0.9, 130)
    found = [detection(1, category, SQUARE, score) for score in scores for category in (3, 6)]
    detections = pair(coco([(1, 3, SQUARE)]), found).detections
    assert np.bincount(detections.label).tolist() == [100, 100]
    assert detections.score.min() == scores[30]


def test_other_classes_are_crowds_where_they_are_forgiven():
    boxes = [(1, 3, SQUARE), (1, 6, (0, 0, 40, 40))]
    found = [detection(1, 3, (20, 20, 10, 10), 0.9), detection(1, 3, (22, 20, 10, 10), 0.8)]
    pairing = pair(coco(boxes), found)
    assert match(pairing, 0.1).wrong.tolist() == [True, True]
    forgiving = match(pairing, 0.1, listed=candidates(pairing, ~np.eye(2, dtype=bool)))
    assert pairing.objects.place[forgiving.object].tolist() == [1, 1]
    assert forgiving.ignored.all() and not forgiving.wrong.any() and not forgiving.right.any()


@pytest.mark.parametrize("tied", [False, True])
def test_pairs_do_not_depend_on_how_many_are_computed_at_a_time(tied, monkeypatch):
    truth, found, _ = random_input(np.random.default_rng(2), tied)
    whole = pair(truth, found).pairs
    monkeypatch.setattr(matching, "CHUNK", 7)
    parts = pair(truth, found).pairs
    assert len(whole.iou) > 7
    for column, values in vars(whole).items():
        assert np.array_equal(values, getattr(parts, column))


def test_permuting_detections_of_distinct_scores_changes_nothing():
    generator = np.random.default_rng(3)
    for _ in range(10):
        truth, found, _ = random_input(generator, tied=False)
        order = generator.permutation(len(found))
        before, ignored = matched(truth, found)
        after, ignored_after = matched(truth, [found[place] for place in order])
        assert len(before) == len(found)
        assert after == [before[place] for place in order]
        assert ignored_after == [ignored[place] for place in order]


def test_a_duplicate_is_exactly_one_more_unmatched_detection():
    boxes = [(1, 3, SQUARE), (1, 6, (50, 50, 20, 20)), (2, 3, (9, 9, 40, 40))]
    truth = coco(boxes, images=(1, 2))
    found = [detection(*box, 0.9) for box in boxes]
    once = match(pair(truth, found), 0.5)
    twice = match(pair(truth, [*found, {**found[1], "score": 0.4}]), 0.5)
    assert (once.right.sum(), once.wrong.sum()) == (3, 0)
    assert (twice.right.sum(), twice.wrong.sum()) == (3, 1)


@pytest.mark.parametrize(
    ("boxes", "found"),
    [
        ([], []),
        ([(2, 3, SQUARE)], []),
        ([], [detection(1, 3, SQUARE, 0.9)]),
        ([(2, 3, SQUARE)], [detection(1, 3, SQUARE, 0.9)]),
        ([(1, 3, SQUARE)], [detection(1, 3, (0, 0, 0, 0), 0.9)]),
    ],
    ids=["nothing", "no detection", "no object", "in different images", "of no area"],
)
def test_nothing_is_matched_where_nothing_meets(boxes, found):
    pairing = pair(coco(boxes, images=(1, 2, 3)), found)
    matches = match(pairing)
    assert len(pairing.pairs.iou) == 0
    assert matches.object.tolist() == [UNMATCHED] * len(found)
    assert matches.wrong.sum() == len(found)
    assert np.isnan(curves(pairing, matches)).all() == (not boxes)


def test_detections_of_a_run_have_the_ids_of_the_ground_truth(tmp_path):
    run = write_run(tmp_path / "run")
    truth = coco([(7, 3, SQUARE), (7, 6, SQUARE)], images=(7,))
    write_detections(run, [(7, 1, list(SQUARE), 0.9)])
    pairing = read_pairing(run, truth)
    assert pairing.classes[pairing.detections.label[0]] == "dog"
    assert pairing.objects.place[match(pairing).object].tolist() == [1]
    write_detections(run, [(8, 1, list(SQUARE), 0.9)])
    with pytest.raises(UserError, match=r"detections\.json\.gz: image or class 8 is not in"):
        read_pairing(run, truth)
