"""VOC average precision, compared with values computed by hand and with mmdet's eval_map."""

import numpy as np
import pytest

from kd.evaluation.voc import ClassDetections, ClassObjects, average_precision, judge, pairwise_iou

BOX = [10.0, 10.0, 29.0, 29.0]
FAR = [100.0, 100.0, 119.0, 119.0]


def objects_of(boxes, images=None, ignored=None):
    """Return objects of one class; without ``images``, all are in image 0."""
    count = len(boxes)
    return ClassObjects(
        np.zeros(count, dtype=int) if images is None else np.array(images, dtype=int),
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.zeros(count, dtype=bool) if ignored is None else np.array(ignored, dtype=bool),
    )


def detections_of(boxes, scores, images=None):
    """Return ranked detections of one class; without ``images``, all are in image 0."""
    images = [0] * len(boxes) if images is None else images
    order = sorted(range(len(boxes)), key=lambda row: (-scores[row], images[row], row))
    return ClassDetections(
        np.array([images[row] for row in order], dtype=int),
        np.array([boxes[row] for row in order], dtype=float).reshape(-1, 4),
        np.array([scores[row] for row in order], dtype=float),
    )


def test_a_perfect_detection_has_an_ap_of_one():
    assert average_precision(objects_of([BOX]), detections_of([BOX], [0.9])) == (1.0, 1.0)


def test_two_of_three_boxes_with_a_false_positive_between():
    """By hand: the precision is 1, 1/2, 2/3 at the recalls 1/3, 1/3, 2/3."""
    boxes = [BOX, [50.0, 50.0, 69.0, 69.0], [80.0, 10.0, 99.0, 29.0]]
    result = average_precision(
        objects_of(boxes), detections_of([boxes[0], FAR, boxes[1]], [0.9, 0.8, 0.7])
    )
    # Of the 11 recalls, 0 to 0.3 have precision 1, 0.4 to 0.6 have 2/3, the others have 0.
    assert result.eleven_point == pytest.approx((4 * 1 + 3 * 2 / 3) / 11, abs=1e-12)
    assert result.all_point == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3, abs=1e-12)


def test_a_recall_of_three_tenths_reaches_three_of_the_eleven_points():
    """In mmdet and VOC's development kit the fourth point is 0.30000000000000004, not 0.3."""
    boxes = [[40.0 * i, 0.0, 40.0 * i + 19, 19.0] for i in range(10)]
    result = average_precision(objects_of(boxes), detections_of(boxes[:3], [0.9, 0.8, 0.7]))
    assert result.eleven_point == pytest.approx(3 / 11, abs=1e-12)
    assert result.all_point == pytest.approx(0.3, abs=1e-12)


def test_the_second_detection_of_a_box_is_a_false_positive():
    """The duplicate (0.8) ranks before the detection of FAR: the precision is 1, 1/2, 2/3."""
    boxes = [BOX, FAR]
    result = average_precision(objects_of(boxes), detections_of([BOX, BOX, FAR], [0.9, 0.8, 0.7]))
    assert result.all_point == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=1e-12)


def test_a_matched_box_is_not_replaced_by_the_next_best():
    """Unlike in COCO, a detection is false if its best box is matched, even if another is near."""
    near = [12.0, 10.0, 31.0, 29.0]
    result = average_precision(objects_of([BOX, near]), detections_of([BOX, BOX], [0.9, 0.8]))
    assert result.all_point == pytest.approx(0.5, abs=1e-12)


def test_detections_of_an_ignored_box_do_not_count():
    result = average_precision(
        objects_of([BOX, FAR], ignored=[False, True]),
        detections_of([FAR, FAR, BOX], [0.9, 0.8, 0.7]),
    )
    assert result == (1.0, 1.0)


def test_an_ignored_box_loses_a_tie_of_overlap():
    result = average_precision(
        objects_of([BOX, BOX], ignored=[True, False]), detections_of([BOX], [0.9])
    )
    assert result == (1.0, 1.0)


@pytest.mark.parametrize("ignored", [[], [True]])
def test_the_ap_of_a_class_without_a_box_that_counts_is_none(ignored):
    objects = objects_of([BOX] * len(ignored), ignored=ignored)
    assert average_precision(objects, detections_of([BOX], [0.9])) is None


def test_the_ap_without_a_detection_is_zero():
    assert average_precision(objects_of([BOX]), detections_of([], [])) == (0.0, 0.0)


def test_a_detection_in_another_image_is_false():
    result = average_precision(
        objects_of([BOX], images=[1]), detections_of([BOX, BOX], [0.9, 0.8], images=[0, 1])
    )
    assert result.all_point == pytest.approx(0.5)


def test_legacy_coordinates_count_both_edge_pixels():
    """A box of 10 x 1 pixels in one of 10 x 2 has an IoU of 1/2 with edge pixels, of 0 without."""
    thin, tall = np.array([[0.0, 0.0, 9.0, 0.0]]), np.array([[0.0, 0.0, 9.0, 1.0]])
    assert pairwise_iou(thin, tall, legacy=True) == [0.5]
    assert pairwise_iou(thin, tall, legacy=False) == [0.0]
    objects, detections = objects_of(tall), detections_of(thin, [1.0])
    assert average_precision(objects, detections) == (1.0, 1.0)
    assert average_precision(objects, detections, legacy=False) == (0.0, 0.0)


def random_case(generator, images=12, classes=3):
    """Return detections and annotations in the form that eval_map reads."""
    predictions, annotations = [], []
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
        predictions.append(
            [_detections_near(generator, boxes[labels == label]) for label in range(classes)]
        )
    return predictions, annotations


def _detections_near(generator, boxes):
    """Return detections (D, 5): jittered ``boxes`` and random boxes, with scores without ties."""
    copies = np.repeat(boxes, generator.integers(0, 4, len(boxes)), axis=0)
    jittered = copies + generator.normal(0, 6, copies.shape)
    corners = generator.uniform(0, 150, (generator.integers(0, 4), 2))
    random_boxes = np.hstack([corners, corners + generator.uniform(5, 60, corners.shape)])
    detected_boxes = np.vstack([jittered, random_boxes])
    return np.hstack([detected_boxes, generator.random((len(detected_boxes), 1))])


def of_class(predictions, annotations, label):
    """Return the objects and the detections of one class."""
    object_boxes, ignored, object_images = [], [], []
    for image, annotation in enumerate(annotations):
        for suffix, is_ignored in (("", False), ("_ignore", True)):
            boxes = annotation["bboxes" + suffix][annotation["labels" + suffix] == label]
            object_boxes += boxes.tolist()
            ignored += [is_ignored] * len(boxes)
            object_images += [image] * len(boxes)
    rows = np.vstack([by_class[label] for by_class in predictions])
    counts = [len(by_class[label]) for by_class in predictions]
    detection_images = np.repeat(np.arange(len(predictions)), counts)
    objects = objects_of(object_boxes, object_images, ignored)
    return objects, detections_of(rows[:, :4], rows[:, 4], detection_images)


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
def test_ap_equals_that_of_mmdet(eval_map, seed, legacy, form, mode):
    predictions, annotations = random_case(np.random.default_rng(seed))
    mean, reference = eval_map(
        predictions,
        annotations,
        iou_thr=0.5,
        nproc=1,
        logger="silent",
        use_legacy_coordinate=legacy,
        eval_mode=mode,
    )
    results = [
        average_precision(*of_class(predictions, annotations, label), legacy=legacy)
        for label in range(len(reference))
    ]
    aps = [getattr(result, form) for result in results if result]
    mmdet_aps = [by_class["ap"] for by_class in reference if by_class["num_gts"] > 0]
    assert aps == pytest.approx(mmdet_aps, abs=1e-6)  # mmdet's AP is a float32
    assert np.mean(aps) == pytest.approx(mean, abs=1e-6)


def judge_in_a_loop(objects, detections, iou, legacy):
    """Return hits and misses by the definition: one detection after the other."""
    matched_boxes, hits, misses = set(), [], []
    # Ignored boxes are compared last, so that a box that counts wins a tie of overlap.
    ignored_last = sorted(range(len(objects.box)), key=lambda box: objects.ignored[box])
    for detection in range(len(detections.score)):
        best_box, best_overlap = -1, -1.0
        for box in ignored_last:
            if objects.image[box] == detections.image[detection]:
                (overlap,) = pairwise_iou(detections.box[[detection]], objects.box[[box]], legacy)
                if overlap > best_overlap:
                    best_box, best_overlap = box, overlap
        matches = best_overlap >= iou
        counts = matches and not objects.ignored[best_box]
        hits.append(counts and best_box not in matched_boxes)
        misses.append(not matches or (counts and best_box in matched_boxes))
        matched_boxes |= {best_box} if counts else set()
    return hits, misses


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_hits_and_misses_equal_those_of_a_loop(seed, legacy):
    """Boxes lie on a grid: scores and overlaps are often equal, and images are often empty."""
    generator = np.random.default_rng(seed)
    object_count, detection_count = generator.integers(0, 25), generator.integers(0, 60)

    def random_boxes(count):
        corners = 10.0 * generator.integers(0, 3, (count, 2))
        return np.hstack([corners, corners + 10.0 * generator.integers(1, 3, (count, 2)) - legacy])

    objects = objects_of(
        random_boxes(object_count),
        images=generator.integers(0, 6, object_count),
        ignored=generator.random(object_count) < 0.3,
    )
    scores = generator.choice([0.25, 0.5, 0.75], detection_count)
    detections = detections_of(
        random_boxes(detection_count), scores, images=generator.integers(0, 8, detection_count)
    )
    for iou in (0.3, 0.5, 0.9):
        judged = judge(objects, detections, iou, legacy)
        hits, misses = judge_in_a_loop(objects, detections, iou, legacy)
        assert judged.hit.tolist() == hits
        assert judged.miss.tolist() == misses
