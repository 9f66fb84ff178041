"""Observations of VFNet, TOOD, DDOD and RepPoints: mmdet's assignments, losses and predictions."""

from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from kd.common.errors import UserError
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.parts import Scale
from kd.observers import observe
from tests.support.paths import CONFIGS
from tests.support.tiny_detectors import CLASSES

torch.set_num_threads(1)

CASES = ["vfnet", "tood", "tood at first", "ddod", "reppoints"]
"""TOOD past its initial epochs and in them, and the other families."""


@pytest.fixture
def detector(build: Any) -> Any:
    """Return a function that builds the detector of a case."""

    def built(case: str, seed: int = 0) -> Any:
        network = build(case.split()[0], seed)
        if case == "tood at first":
            network.bbox_head.set_epoch(0)
        return network

    return built


def recorded(observation: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what the calls of a method of the head returned while losses were computed."""
    results, owner = [], type(observation.head)
    method = getattr(owner, name)

    def recording(*args: Any, **kwargs: Any) -> Any:
        results.append(method(*args, **kwargs))
        return results[-1]

    monkeypatch.setattr(owner, name, recording)
    observation.losses()
    return results


@pytest.mark.parametrize("boxes", [(3, 2), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_losses_are_bit_identical_to_mmdets(
    detector: Any, batch: Any, case: str, boxes: tuple[int, int]
) -> None:
    network, other, data = detector(case), detector(case), batch(boxes)
    losses = observe(network, data, frozen=False).losses()
    mmdet_losses = other.loss(data.inputs, data.samples)
    assert losses.keys() == mmdet_losses.keys()
    for name, value in mmdet_losses.items():
        torch.testing.assert_close(losses[name], value, rtol=0, atol=0)


TARGETS = {
    "vfnet": ("get_targets", 0),
    "tood": ("get_targets", 1),
    "ddod": ("get_cls_targets", 1),
    "reppoints": ("get_targets", 0),
}
"""Method whose last result has the targets of the class loss, and the index of the labels."""


@pytest.mark.parametrize("case", CASES)
def test_assignment_and_samples_give_the_labels_that_the_head_trained_with(
    detector: Any, batch: Any, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = batch()
    observation = observe(detector(case), data, frozen=False)
    name, index = TARGETS[case.split()[0]]
    labels, weights = recorded(observation, name, monkeypatch)[-1][index : index + 2]
    if case == "vfnet":  # all images of a level in a row, and one tensor of weights
        sizes = [len(level) for level in labels]
        weights = weights.split(sizes)
        labels, weights = (
            torch.cat([level.unflatten(0, (2, -1)) for level in levels], 1)
            for levels in (labels, weights)
        )
    else:
        labels, weights = torch.cat(labels, 1), torch.cat(weights, 1)
    assert torch.equal(observation.sampled, weights > 0)
    for image, assigned in enumerate(observation.assignment):
        positive = assigned >= 0
        assert positive.any()
        assert torch.equal(positive, labels[image] < CLASSES)
        assert torch.equal(data.gt_labels[image][assigned[positive]], labels[image][positive])


def assigned(assigner: Any, priors: Any, *args: Any) -> Tensor:
    return (assigner.assign(priors, *args).gt_inds - 1).clamp(min=-1)


def test_tood_assigns_as_atss_at_first_and_by_its_outputs_then(detector: Any, batch: Any) -> None:
    # The first image fills its place in the batch: all its priors are valid.
    network, data = detector("tood"), batch()
    head, truth = network.bbox_head, data.samples[0].gt_instances
    for epoch in (0, head.initial_epoch - 1, head.initial_epoch):
        head.set_epoch(epoch)
        observation = observe(network, data, frozen=False)
        observation.losses()
        levels = [len(level) for level in observation.level_priors]
        every = torch.arange(len(observation.priors))
        boxes = observation.boxes(torch.zeros_like(every), every)
        outputs = InstanceData(
            priors=observation.priors, scores=observation.probabilities[0], bboxes=boxes
        )
        if epoch < head.initial_epoch:
            priors = InstanceData(priors=observation.priors)
            expected = assigned(head.initial_assigner, priors, levels, truth)
        else:
            expected = assigned(
                head.alignment_assigner, outputs, truth, None, head.alpha, head.beta
            )
        assert torch.equal(observation.assignment[0], expected)


def test_ddod_records_the_assignment_of_classes(detector: Any, batch: Any) -> None:
    network, data = detector("ddod"), batch()
    network.bbox_head.reg_assigner.topk = 3
    observation = observe(network, data, frozen=False)
    observation.losses()
    every = torch.arange(len(observation.priors))
    outputs = InstanceData(
        priors=observation.priors,
        scores=observation.logits[0],
        bboxes=observation.boxes(torch.zeros_like(every), every),
    )
    levels = [len(level) for level in observation.level_priors]
    truth = data.samples[0].gt_instances
    head = network.bbox_head
    expected = assigned(head.cls_assigner, outputs, levels, truth)
    assert torch.equal(observation.assignment[0], expected)
    assert not torch.equal(expected, assigned(head.reg_assigner, outputs, levels, truth))


def test_reppoints_assigns_objects_to_the_boxes_of_initial_points(
    detector: Any, batch: Any
) -> None:
    network, data = detector("reppoints"), batch()
    observation = observe(network, data, frozen=False)
    observation.losses()
    boxes = [
        network.bbox_head.points2bbox(level)[0].permute(1, 2, 0).reshape(-1, 4) * stride + priors
        for level, stride, priors in zip(
            observation.outputs[1], observation.strides, observation.level_priors, strict=True
        )
    ]
    truth = data.samples[0].gt_instances
    priors = InstanceData(priors=torch.cat(boxes).detach())
    expected = assigned(network.bbox_head.refine_assigner, priors, truth)
    assert torch.equal(observation.assignment[0], expected)


@pytest.mark.parametrize("case", CASES)
def test_boxes_and_scores_are_those_that_mmdet_predicts(
    detector: Any, batch: Any, case: str
) -> None:
    network, data = detector(case).eval(), batch()
    with torch.no_grad():
        observation = observe(network, data, frozen=False)
        scores, boxes, *quality = observation.outputs
        values = torch.linspace(-4, 4, sum(level.numel() for level in scores))
        values = values[torch.randperm(len(values))].sigmoid()
        sizes = [level.numel() for level in scores]
        scores = [
            (
                part if network.bbox_head.__class__.__name__.endswith("TOODHead") else part.logit()
            ).view_as(level)
            for part, level in zip(values.split(sizes), scores, strict=True)
        ]
        observation.class_outputs = scores
        certain = [[torch.full_like(level, 30) for level in levels] for levels in quality]
        metas = [sample.metainfo for sample in data.samples]
        everything = {"score_thr": -1, "min_bbox_size": -1, "nms_pre": 100_000}
        results = network.bbox_head.predict_by_feat(
            scores, boxes, *certain, batch_img_metas=metas, with_nms=False,
            cfg=ConfigDict({**network.test_cfg, **everything}),
        )  # fmt: skip
        for image, result in enumerate(results):
            order = observation.probabilities[image].flatten().argsort(descending=True)[:300]
            best = result.scores.argsort(descending=True)[:300]
            prior = order // CLASSES
            height, width = metas[image]["img_shape"]
            limits = torch.tensor([width, height, width, height])
            ours = observation.boxes(torch.full_like(prior, image), prior)
            theirs = result.bboxes[best]
            clamped = (values.clamp(min=0).minimum(limits) for values in (ours, theirs))
            torch.testing.assert_close(*clamped, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(
                observation.probabilities[image].flatten()[order], result.scores[best],
                rtol=1e-5, atol=1e-6,
            )  # fmt: skip
            assert torch.equal(order % CLASSES, result.labels[best])


@pytest.mark.parametrize("case", CASES)
def test_a_teacher_in_eval_mode_has_the_boxes_of_training(
    detector: Any, batch: Any, case: str
) -> None:
    """The heads of VFNet and RepPoints return other outputs in eval mode."""
    network, data = detector(case), batch()
    network.backbone.eval()
    network.neck.eval()
    student = observe(network, data, frozen=False)
    every = torch.arange(len(student.priors))
    where = torch.ones_like(every), every
    codes = student.codes(*where).detach()
    teacher = observe(network.eval(), data, frozen=True)
    torch.testing.assert_close(teacher.codes(*where), codes)
    torch.testing.assert_close(teacher.logits, student.logits)
    assert not teacher.codes(*where).requires_grad
    encoded = student.encode(student.boxes(*where), every)
    torch.testing.assert_close(encoded, codes, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_boxes_and_logits_have_gradients_in_the_head_and_the_neck(
    detector: Any, batch: Any, case: str
) -> None:
    network = detector(case)
    observation = observe(network, batch(), frozen=False)
    observation.losses()
    positive = observation.candidates.positive
    boxes, logits = (
        observation.candidate_boxes(positive).sum(),
        observation.candidate_logits(positive).sum(),
    )
    for value in (boxes, logits):
        gradients = torch.autograd.grad(value, observation.neck, retain_graph=True)
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("case", CASES)
def test_a_subset_of_images_has_their_rows(detector: Any, batch: Any, case: str) -> None:
    observation = observe(detector(case), batch(), frozen=False)
    observation.losses()
    part = observation.subset(slice(1, 2))
    assert torch.equal(part.assignment[0], observation.assignment[1])
    assert torch.equal(part.logits[0], observation.logits[1])
    row = torch.arange(9)
    torch.testing.assert_close(
        part.boxes(torch.zeros_like(row), row), observation.boxes(torch.ones_like(row), row)
    )


@pytest.mark.parametrize("case", CASES)
def test_the_head_is_not_changed(detector: Any, batch: Any, case: str) -> None:
    network = detector(case)
    head = network.bbox_head
    observe(network, batch(), frozen=False).losses()  # mmdet sets some attributes once
    before = set(vars(head)), set(vars(head.sampler))
    observe(network, batch(), frozen=False).losses()
    assert (set(vars(head)), set(vars(head.sampler))) == before


def test_logits_of_tood_are_finite_where_scores_round_to_0_and_1(detector: Any, batch: Any) -> None:
    network = detector("tood")
    observation = observe(network, batch(), frozen=False)
    extreme = [torch.linspace(0, 1, 5).view(1, 5, 1, 1)]
    observation.class_outputs = extreme
    (logits,) = observation.class_maps
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.sigmoid(), extreme[0], rtol=0, atol=1e-6)


def test_tood_samples_boxes_in_float32_in_mixed_precision(detector: Any) -> None:
    """A coordinate of 100.5 cells is rounded to 100 or 101 by bfloat16."""
    head = detector("tood").bbox_head
    boxes = torch.full((1, 4, 2, 2), 100.5)
    offsets = torch.zeros(1, 8, 2, 2, dtype=torch.bfloat16)
    assert torch.equal(head.deform_sampling(boxes, offsets), boxes)


def test_labels_of_vfnet_that_atss_does_not_assign_are_refused() -> None:
    scale = Scale(title="test", detectors={"vfnet": {"bbox_head": {"use_atss": False}}})
    with pytest.raises(UserError, match=r"^here: detector 'vfnet': key .*use_atss' must be true"):
        detector_model("vfnet", "r18", 8, "scratch", scale, Library(CONFIGS), "here")


def test_points_are_assigned_on_their_device(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The assigner of mmdet makes an index without a device."""
    from mmdet.models.dense_heads import RepPointsHead

    head, devices = build("reppoints").bbox_head, []

    def get_targets(self: Any, *_: Any, **__: Any) -> tuple[Any, ...]:
        devices.append(torch.arange(3).device.type)
        return (*[None] * 5, 1)

    monkeypatch.setattr(RepPointsHead, "get_targets", get_targets)
    for device in ("cpu", "meta"):
        points = [[torch.zeros(3, 3, device=device)]]
        head.get_targets(points)
        head.get_targets(proposals_list=points)
    assert devices == ["cpu"] * 2 + ["meta"] * 2
    assert torch.arange(3).device.type == "cpu"
