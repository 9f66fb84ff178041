"""NMS and the best detections of a batch, by hand."""

import torch

from kd.export.selection import ScoredBoxes, best, largest

# Two boxes with IoU 0.6 (intersection 30, union 50), and one elsewhere.
BOXES = [[0.0, 0.0, 10.0, 4.0], [2.5, 0.0, 12.5, 4.0], [50.0, 50.0, 60.0, 60.0]]


def candidates(scores, labels, boxes=BOXES):
    return ScoredBoxes(torch.tensor([boxes]), torch.tensor([scores]), torch.tensor([labels]))


def test_the_better_of_two_overlapping_boxes_of_a_class_remains():
    detections = best(candidates([0.5, 0.9, 0.7], [1, 1, 1]), 0.5, 3)
    assert detections.scores[0].tolist() == [torch.tensor(0.9), torch.tensor(0.7), 0]
    assert detections.boxes[0].tolist() == [BOXES[1], BOXES[2], [0, 0, 0, 0]]
    assert detections.labels[0].tolist() == [1, 1, -1]


def test_boxes_of_different_classes_and_below_the_threshold_remain():
    assert (best(candidates([0.5, 0.9, 0.7], [0, 1, 1]), 0.5, 3).scores > 0).all()
    assert (best(candidates([0.5, 0.9, 0.7], [1, 1, 1]), 0.7, 3).scores > 0).all()


def test_only_the_best_are_returned():
    detections = best(candidates([0.5, 0.9, 0.7], [0, 1, 2]), 0.5, 1)
    assert detections.labels.tolist() == [[1]]


def test_boxes_that_are_no_candidates_are_left_out():
    far = [*BOXES[:2], [0.0, 0.0, 1e30, float("inf")]]
    detections = best(candidates([-1.0, 0.9, -1.0], [0, 1, 2], far), 0.5, 2)
    assert detections.labels.tolist() == [[1, -1]]
    assert detections.boxes.isfinite().all()
    assert (best(candidates([-1.0, -1.0, -1.0], [0, 1, 2]), 0.5, 2).scores == 0).all()


def test_each_image_of_a_batch_is_selected_alone():
    boxes = torch.tensor([BOXES, BOXES])
    scores = torch.tensor([[0.5, 0.9, -1.0], [0.8, 0.2, 0.3]])
    labels = torch.zeros(2, 3, dtype=torch.long)
    detections = best(ScoredBoxes(boxes, scores, labels), 0.5, 2)
    assert [len(row[row > 0]) for row in detections.scores] == [1, 2]
    assert detections.boxes[1].tolist() == [BOXES[0], BOXES[2]]


def test_the_largest_are_all_where_there_are_fewer():
    values, indices = largest(torch.tensor([[1.0, 3.0, 2.0]]), 2)
    assert (values.tolist(), indices.tolist()) == ([[3, 2]], [[1, 2]])
    assert largest(torch.tensor([[1.0, 3.0]]), 5)[0].tolist() == [[3, 1]]
