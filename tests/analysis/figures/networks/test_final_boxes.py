"""Final boxes: the detections of mmdet to the bit, their priors, and those of objects."""

import pytest
import torch

from analysis.figures.final_boxes import (
    FinalBoxes,
    PriorLevel,
    boxes_of_objects,
    final_boxes_of,
    prior_name,
)
from kd.observers import observe

FAMILIES = ["retinanet", "gfl", "atss", "fcos", "ssd300"]


@pytest.mark.parametrize("family", FAMILIES)
def test_final_boxes_equal_mmdets_to_the_bit(detector, batch, family):
    model, data = detector(family), batch()
    with torch.no_grad():
        expected = model.predict(data.inputs, data.samples, rescale=False)
        final_boxes = final_boxes_of(observe(model, data, frozen=True))
    for boxes, sample in zip(final_boxes, expected, strict=True):
        instances = sample.pred_instances
        assert len(instances) > 5
        assert torch.equal(boxes.boxes, instances.bboxes)
        assert torch.equal(boxes.scores, instances.scores)
        assert torch.equal(boxes.labels, instances.labels)
    assert "prior" not in expected[0].pred_instances


@pytest.mark.parametrize("family", FAMILIES)
def test_a_box_decodes_from_its_prior(detector, batch, family):
    data = batch()
    observation = observe(detector(family), data, frozen=True)
    with torch.no_grad():
        final_boxes = final_boxes_of(observation)
        for image, (boxes, sample) in enumerate(zip(final_boxes, data.samples, strict=True)):
            height, width = sample.metainfo["img_shape"]
            decoded = observation.boxes(torch.full_like(boxes.prior, image), boxes.prior)
            decoded = torch.minimum(decoded.clamp(min=0), torch.tensor([width, height] * 2))
            torch.testing.assert_close(decoded, boxes.boxes, rtol=1e-5, atol=1e-4)
            scores = observation.probabilities[image, boxes.prior, boxes.labels]
            if len(observation.outputs) == 2:  # otherwise scores are multiplied by centerness
                torch.testing.assert_close(scores, boxes.scores)


def test_mmdet_is_restored_after_an_error(detector, batch):
    model, data = detector("retinanet"), batch()
    names = type(model.bbox_head)._predict_by_feat_single.__globals__
    before = names["filter_scores_and_topk"]
    broken = observe(model, data, frozen=True)
    broken.outputs = ([], [None])
    with pytest.raises(AssertionError):
        final_boxes_of(broken)
    assert names["filter_scores_and_topk"] is before
    assert "_bbox_post_process" not in vars(model.bbox_head)


def final_boxes(boxes, labels):
    count = len(boxes)
    return FinalBoxes(
        torch.tensor(boxes).reshape(-1, 4),
        torch.linspace(0.9, 0.1, count),
        torch.tensor(labels, dtype=torch.long),
        torch.arange(count) + 100,
    )


def test_the_final_box_of_an_object_has_its_class_and_the_highest_iou():
    objects = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]])
    corners = [[0.0, 0, 10, 8], [0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 24]]
    final = final_boxes(corners, [0, 0, 1, 0])
    matched = boxes_of_objects(final, objects, torch.tensor([0, 0, 1]))
    assert matched.prior.tolist() == [101, -1, -1]  # an IoU of 0.4 is too small; the third has none
    assert matched.iou[0].item() == pytest.approx(0.9) and matched.iou[1:].isnan().all()
    assert matched.boxes[0].tolist() == corners[1] and matched.boxes[1:].isnan().all()
    assert matched.scores[0] == final.scores[1] and matched.scores[1:].isnan().all()


def test_without_detections_or_objects_there_is_no_final_box():
    objects = torch.tensor([[0.0, 0, 10, 10]])
    missed = boxes_of_objects(final_boxes([], []), objects, torch.tensor([0]))
    assert missed.prior.tolist() == [-1] and missed.iou.isnan().all()
    assert missed.boxes.shape == (1, 4) and missed.boxes.isnan().all()
    none = boxes_of_objects(
        final_boxes([[0.0, 0, 1, 1]], [0]), objects[:0], torch.tensor([]).long()
    )
    assert none.prior.shape == none.iou.shape == none.scores.shape == (0,)


def test_priors_are_named_by_level_row_column_and_anchor():
    levels = [PriorLevel(2, 3, 2), PriorLevel(1, 1, 2)]
    names = [prior_name(prior, levels) for prior in (-1, 0, 3, 11, 12, 13, 14)]
    assert names == ["", "0:0:0:0", "0:0:1:1", "0:1:2:1", "1:0:0:0", "1:0:0:1", ""]
