"""Observations of two-stage detectors equal what mmdet's own training computes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict

from kd.observers import observe
from tests.observers.test_observation import TWO_STAGE, observed
from tests.support.tiny_detectors import CLASSES

torch.set_num_threads(1)


@pytest.fixture
def trained(build: Any, batch: Any) -> SimpleNamespace:
    """Return a student's observation and the arguments of its second stage's loss."""
    detector, data, training = build("faster_rcnn"), batch(), SimpleNamespace()
    head = detector.roi_head.bbox_head
    compute = head.loss_and_target

    def recorded(**arguments: Any) -> Any:
        result = compute(**arguments)
        vars(training).update(arguments, targets=result["bbox_targets"])
        return result

    head.loss_and_target = recorded
    training.observation = observed(detector, data)
    del head.loss_and_target
    training.data, training.detector = data, detector
    return training


# --- Proposals -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", TWO_STAGE)
def test_boxes_and_scores_of_the_rpn_are_those_that_mmdet_predicts(build, batch, family):
    observation = observe(build(family), batch(), frozen=False)
    torch.manual_seed(5)
    observation.outputs = tuple(
        [torch.randn_like(level) * 0.3 for level in levels] for levels in observation.outputs
    )
    no_limits = {"nms_pre": -1, "max_per_img": 10_000, "min_bbox_size": -1}
    settings = ConfigDict({**no_limits, "nms": {"type": "nms", "iou_threshold": 1.0}})
    metas = [sample.metainfo for sample in observation.batch.samples]
    results = observation.head.predict_by_feat(
        *observation.outputs, batch_img_metas=metas, cfg=settings
    )
    for image, result in enumerate(results):
        scores, best_first = observation.probabilities[image, :, 0].sort(descending=True)
        boxes = observation.boxes(torch.full_like(best_first, image), best_first)
        height, width = metas[image]["img_shape"]
        boxes = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        torch.testing.assert_close(result.scores, scores)
        torch.testing.assert_close(result.bboxes, boxes)
        codes = observation.codes(torch.full_like(best_first, image), best_first)
        encoded = observation.encode(
            observation.boxes(best_first * 0 + image, best_first), best_first
        )
        torch.testing.assert_close(encoded, codes, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", TWO_STAGE)
def test_proposals_are_those_that_the_second_stage_is_trained_on(build, batch, family):
    detector, data, mmdet_proposals = build(family), batch(), []
    make = detector.roi_head.loss

    def recorded(neck: Any, proposals: Any, samples: Any) -> Any:
        mmdet_proposals.extend(
            result.bboxes.clone() for result in proposals
        )  # mmdet changes it in place later
        return make(neck, proposals, samples)

    detector.roi_head.loss = recorded
    torch.manual_seed(0)
    detector.loss(data.inputs, data.samples)
    del detector.roi_head.loss
    proposals = observed(detector, data).proposals
    for ours, theirs in zip(proposals, mmdet_proposals, strict=True):
        assert torch.equal(ours, theirs)
        assert 0 < len(ours) <= 50


def test_a_teacher_has_the_proposals_of_a_student_of_its_weights(build, batch):
    detector, data = build("faster_rcnn"), batch()
    student, teacher = observed(detector, data), observe(detector, data, frozen=True)
    for ours, theirs in zip(student.proposals, teacher.proposals, strict=True):
        torch.testing.assert_close(ours, theirs)


# --- Regions -------------------------------------------------------------------------------


def test_candidates_are_the_sampled_regions_with_the_outputs_of_the_loss(trained):
    observation, candidates = trained.observation, trained.observation.candidates
    assert torch.equal(candidates.rois, trained.rois)
    assert torch.equal(candidates.image, trained.rois[:, 0].long())
    assert torch.equal(observation.candidate_logits(candidates), trained.cls_score)
    labels, weights, targets, regressed = trained.targets
    positive = candidates.instance >= 0
    assert 0 < positive.sum() < len(positive)
    assert torch.equal(positive, labels < CLASSES)
    assert torch.equal(candidates.positive.labels(trained.data), labels[positive])
    assert weights.eq(1).all() and torch.equal(positive, regressed.ne(0).any(1))
    torch.testing.assert_close(
        observation.candidate_targets(candidates.positive), targets[positive]
    )
    codes = trained.bbox_pred.view(len(positive), CLASSES, 4)[positive, labels[positive]]
    assert torch.equal(observation.candidate_codes(candidates.positive), codes)


def test_boxes_of_regions_are_those_that_mmdet_predicts(trained):
    observation, head = trained.observation, trained.detector.roi_head.bbox_head
    positive = observation.candidates.positive
    image = positive.image == 0
    meta = trained.data.samples[0].metainfo
    rows = positive.index[image]
    expected = head._predict_by_feat_single(
        trained.rois[rows], trained.cls_score[rows], trained.bbox_pred[rows], meta
    ).bboxes.view(len(rows), CLASSES, 4)
    expected = expected[torch.arange(len(rows)), positive.labels(trained.data)[image]]
    height, width = meta["img_shape"]
    limits = torch.tensor([width, height, width, height])
    boxes = observation.candidate_boxes(positive)[image].clamp(min=0).minimum(limits)
    torch.testing.assert_close(boxes, expected)


def test_a_teacher_of_the_same_weights_has_the_same_outputs_on_the_students_regions(trained):
    candidates = trained.observation.candidates
    teacher = observe(trained.detector, trained.data, frozen=True)
    torch.testing.assert_close(
        teacher.candidate_logits(candidates), trained.observation.candidate_logits(candidates)
    )
    torch.testing.assert_close(
        teacher.candidate_codes(candidates.positive),
        trained.observation.candidate_codes(candidates.positive),
    )


def test_proposals_are_sampled_as_in_training(trained):
    """The generator's state is reset to that at the beginning of the second stage."""
    observation = trained.observation
    torch.manual_seed(3)
    candidates = observation.sample(observation.proposals)
    torch.manual_seed(3)
    repeated = observation.sample(observation.proposals)
    assert torch.equal(candidates.rois, repeated.rois)
    images = [candidates.image == image for image in range(2)]
    assert all(0 < rows.sum() <= 32 for rows in images)
    for image, truth in enumerate(trained.data.gt_boxes):
        rois = candidates.rois[images[image], 1:]
        assert all((rois == box).all(1).any() for box in truth)  # objects are proposals too
    assert torch.equal(candidates.positive.truth(trained.data)[0], candidates.rois[0, 1:])


@pytest.mark.parametrize("boxes", [(2, 0), (0, 0)], ids=str)
def test_regions_of_images_without_objects_are_background(build, batch, boxes):
    data = batch(boxes)
    student = observed(build("faster_rcnn"), data)
    for candidates in (student.candidates, student.sample(student.proposals)):
        assert (candidates.instance[candidates.image == 1] == -1).all()
        assert set(candidates.image.tolist()) == {0, 1}
        positive = candidates.positive
        assert len(positive) > 0 or boxes == (0, 0)
        assert student.candidate_codes(positive).shape == (len(positive), 4)
        assert student.candidate_boxes(positive).shape == (len(positive), 4)
        assert student.candidate_targets(positive).shape == (len(positive), 4)


def test_without_proposals_and_objects_there_are_no_regions(build, batch):
    student = observed(build("faster_rcnn"), batch((0, 0)))
    nothing = student.sample([torch.zeros(0, 4)] * 2)
    assert len(nothing) == 0
    assert student.candidate_logits(nothing).shape == (0, CLASSES + 1)
    assert student.pool(student.region_maps, nothing.rois).shape[0] == 0


def test_values_of_priors_are_those_of_the_rpn(trained):
    """Candidates without RoIs are priors of the RPN."""
    observation = trained.observation
    priors = observation.every_prior[observation.sampled.flatten()]
    assert priors.rois is None
    logits = observation.candidate_logits(priors)
    assert torch.equal(logits, observation.logits[observation.sampled])
    positive = priors.positive
    codes = observation.encode(positive.truth(trained.data), positive.index)
    assert torch.equal(observation.candidate_targets(positive), codes)
    assert torch.equal(
        observation.candidate_codes(positive), observation.codes(positive.image, positive.index)
    )
    assert observation.candidate_boxes(positive).shape == (len(positive), 4)
