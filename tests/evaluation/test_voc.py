"""VOC average precision: cases counted by hand, and mmdet's eval_map as the reference."""

import numpy as np
import pytest

from kd.evaluation.voc import ClassDetections, ClassObjects, average_precision, judge, pairwise_iou

BOX = [10.0, 10.0, 29.0, 29.0]
FAR = [100.0, 100.0, 119.0, 119.0]


def objects_of(boxes, image=None, ignored=None):
    count = len(boxes)
    return ClassObjects(
        np.zeros(count, dtype=int) if image is None else np.array(image),
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.zeros(count, dtype=bool) if ignored is None else np.array(ignored, dtype=bool),
    )


def detections_of(boxes, score, image=None):
    return ClassDetections(
        np.zeros(len(boxes), dtype=int) if image is None else np.array(image),
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(score, dtype=float),
    )


def test_perfect_detection_is_one():
    assert average_precision(objects_of([BOX]), detections_of([BOX], [0.9])) == (1.0, 1.0)


def test_two_of_three_boxes_with_a_false_positive_between():
    """Precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3: counted by hand."""
    boxes = [BOX, [50.0, 50.0, 69.0, 69.0], [80.0, 10.0, 99.0, 29.0]]
    result = average_precision(
        objects_of(boxes), detections_of([boxes[0], FAR, boxes[1]], [0.9, 0.8, 0.7])
    )
    # Recalls 0, .1, .2, .3 see precision 1; .4, .5, .6 see 2/3; .7 and beyond see 0.
    assert result.eleven_point == pytest.approx((4 * 1 + 3 * 2 / 3) / 11, abs=1e-12)
    assert result.all_point == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3, abs=1e-12)


def test_recall_of_three_tenths_misses_its_own_grid_point():
    """Mmdet and the development kit count to 0.30000000000000004: three points, not four."""
    boxes = [[40.0 * i, 0.0, 40.0 * i + 19, 19.0] for i in range(10)]
    result = average_precision(objects_of(boxes), detections_of(boxes[:3], [0.9, 0.8, 0.7]))
    assert result.eleven_point == pytest.approx(3 / 11, abs=1e-12)
    assert result.all_point == pytest.approx(0.3, abs=1e-12)


def test_second_detection_of_a_box_is_a_false_positive():
    """The duplicate (0.8) stands before the second box's detection: precision 1, 1/2, 2/3."""
    boxes = [BOX, FAR]
    result = average_precision(objects_of(boxes), detections_of([BOX, BOX, FAR], [0.9, 0.8, 0.7]))
    assert result.all_point == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=1e-12)


def test_a_taken_box_is_not_replaced_by_the_next_best():
    """Unlike COCO: a detection whose best box is matched already is false, though one is near."""
    near = [12.0, 10.0, 31.0, 29.0]
    result = average_precision(objects_of([BOX, near]), detections_of([BOX, BOX], [0.9, 0.8]))
    assert result.all_point == pytest.approx(0.5, abs=1e-12)


def test_ignored_box_takes_its_detection_out_of_the_count():
    result = average_precision(
        objects_of([BOX, FAR], ignored=[False, True]),
        detections_of([FAR, FAR, BOX], [0.9, 0.8, 0.7]),
    )
    assert result == (1.0, 1.0)


def test_ignored_box_loses_a_tie_of_overlap():
    result = average_precision(
        objects_of([BOX, BOX], ignored=[True, False]), detections_of([BOX], [0.9])
    )
    assert result == (1.0, 1.0)


@pytest.mark.parametrize("ignored", [[], [True]])
def test_class_without_a_box_that_counts_is_undefined(ignored):
    boxes = [BOX] * len(ignored)
    assert (
        average_precision(objects_of(boxes, ignored=ignored), detections_of([BOX], [0.9])) is None
    )


def test_no_detection_is_zero():
    assert average_precision(objects_of([BOX]), detections_of([], [])) == (0.0, 0.0)


def test_detection_in_another_image_is_false():
    result = average_precision(
        objects_of([BOX], image=[1]), detections_of([BOX, BOX], [0.9, 0.8], image=[0, 1])
    )
    assert result.all_point == pytest.approx(0.5)


def test_equal_scores_rank_by_image_then_by_position():
    later_is_right = detections_of([BOX, BOX], [0.5, 0.5], image=[1, 0])
    assert average_precision(objects_of([BOX], image=[0]), later_is_right) == (1.0, 1.0)
    assert (
        average_precision(objects_of([BOX]), detections_of([FAR, BOX], [0.5, 0.5])).all_point == 0.5
    )


def test_legacy_coordinates_count_both_edge_pixels():
    """10 x 1 of 10 x 2 pixels: IoU 1/2 with edges counted, 0 without."""
    thin, tall = np.array([[0.0, 0.0, 9.0, 0.0]]), np.array([[0.0, 0.0, 9.0, 1.0]])
    assert pairwise_iou(thin, tall, legacy=True) == [0.5]
    assert pairwise_iou(thin, tall, legacy=False) == [0.0]
    assert average_precision(objects_of(tall), detections_of(thin, [1.0])) == (1.0, 1.0)
    assert average_precision(objects_of(tall), detections_of(thin, [1.0]), legacy=False) == (
        0.0,
        0.0,
    )


def random_case(generator, images=12, classes=3):
    """Return detections and annotations in the form that eval_map reads."""
    predicted, annotations = [], []
    for _ in range(images):
        count = generator.integers(0, 7)
        corner, size = generator.uniform(0, 200, (count, 2)), generator.uniform(4, 90, (count, 2))
        boxes, labels = np.hstack([corner, corner + size]), generator.integers(0, classes, count)
        ignored = generator.random(count) < 0.25
        annotations.append(
            {
                "bboxes": boxes[~ignored],
                "labels": labels[~ignored],
                "bboxes_ignore": boxes[ignored],
                "labels_ignore": labels[ignored],
            }
        )
        predicted.append([_near(generator, boxes[labels == label]) for label in range(classes)])
    return predicted, annotations


def _near(generator, boxes):
    """Return (D, 5): jittered copies of ``boxes``, some stray ones, and scores without ties."""
    copies = np.repeat(boxes, generator.integers(0, 4, len(boxes)), axis=0)
    copies = copies + generator.normal(0, 6, copies.shape)
    stray = generator.uniform(0, 150, (generator.integers(0, 4), 2))
    stray = np.hstack([stray, stray + generator.uniform(5, 60, stray.shape)])
    stacked = np.vstack([copies, stray])
    return np.hstack([stacked, generator.random((len(stacked), 1))])


def columns(predicted, annotations, label):
    """Return the objects and the detections of one class."""
    object_boxes, ignored, image = [], [], []
    for rank, item in enumerate(annotations):
        for suffix, flag in (("", False), ("_ignore", True)):
            boxes = item["bboxes" + suffix][item["labels" + suffix] == label]
            object_boxes += boxes.tolist()
            ignored += [flag] * len(boxes)
            image += [rank] * len(boxes)
    rows = np.vstack([item[label] for item in predicted])
    place = np.repeat(np.arange(len(predicted)), [len(item[label]) for item in predicted])
    return objects_of(object_boxes, np.array(image, dtype=int), ignored), detections_of(
        rows[:, :4], rows[:, 4], place
    )


@pytest.fixture(scope="module")
def eval_map():
    try:
        import kd.models.mmcv_ops
    except ImportError:
        pass
    else:
        kd.models.mmcv_ops.install()
    from mmdet.evaluation.functional import eval_map

    return eval_map


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("form", "mode"), [("eleven_point", "11points"), ("all_point", "area")])
def test_equals_mmdet(eval_map, seed, legacy, form, mode):
    predicted, annotations = random_case(np.random.default_rng(seed))
    mean, reference = eval_map(
        predicted,
        annotations,
        iou_thr=0.5,
        nproc=1,
        logger="silent",
        use_legacy_coordinate=legacy,
        eval_mode=mode,
    )
    results = [
        average_precision(*columns(predicted, annotations, label), legacy=legacy)
        for label in range(len(reference))
    ]
    ours = [getattr(result, form) for result in results if result]
    theirs = [item["ap"] for item in reference if item["num_gts"] > 0]
    assert ours == pytest.approx(theirs, abs=1e-6)  # mmdet's AP is a float32
    assert np.mean(ours) == pytest.approx(mean, abs=1e-6)


def plainly_judged(objects, detections, iou, legacy):
    """Return order, hit and miss by the definition: one detection after the other."""
    order = sorted(
        range(len(detections.score)), key=lambda i: (-detections.score[i], detections.image[i], i)
    )
    matched_boxes, hits, misses = set(), [], []
    # Ignored boxes are compared last, so that of equal overlaps the one that counts wins.
    ranked_boxes = sorted(range(len(objects.box)), key=lambda box: objects.ignored[box])
    for detection in order:
        best, overlap = -1, -1.0
        for box in ranked_boxes:
            if objects.image[box] == detections.image[detection]:
                (value,) = pairwise_iou(detections.box[[detection]], objects.box[[box]], legacy)
                best, overlap = (box, value) if value > overlap else (best, overlap)
        matched = overlap >= iou
        counts = matched and not objects.ignored[best]
        hits.append(counts and best not in matched_boxes)
        misses.append(not matched or (counts and best in matched_boxes))
        matched_boxes |= {best} if counts else set()
    return order, hits, misses


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_judgement_is_that_of_a_plain_loop(seed, legacy):
    """On a grid, so that scores and overlaps are often equal, and images often empty."""
    generator = np.random.default_rng(seed)
    boxes, count = generator.integers(0, 25), generator.integers(0, 60)

    def random_boxes(size):
        corner = 10.0 * generator.integers(0, 3, (size, 2))
        return np.hstack([corner, corner + 10.0 * generator.integers(1, 3, (size, 2)) - legacy])

    scene = objects_of(
        random_boxes(boxes), generator.integers(0, 6, boxes), generator.random(boxes) < 0.3
    )
    scores = generator.choice([0.25, 0.5, 0.75], count)
    detections = detections_of(random_boxes(count), scores, generator.integers(0, 8, count))
    for iou in (0.3, 0.5, 0.9):
        judged = judge(scene, detections, iou, legacy)
        order, hit, miss = plainly_judged(scene, detections, iou, legacy)
        assert (judged.order.tolist(), judged.hit.tolist()) == (order, hit)
        assert judged.miss.tolist() == miss
