"""Observations equal what mmdet itself assigns, computes and decodes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from kd.observers import observe
from tests.observers.targets import trained
from tests.support.tiny_detectors import CLASSES

torch.set_num_threads(1)

ANCHORS = ["retinanet", "atss", "gfl", "ssd300"]
DYNAMIC = ["rtmdet", "yolox"]
"""Detectors whose assigner matches predictions to objects."""
ONE_STAGE = [*ANCHORS, "fcos", "yolov3", *DYNAMIC]
TWO_STAGE = ["faster_rcnn", "cascade_rcnn"]


def head_of(detector: Any) -> Any:
    """Return the head that predicts at every prior."""
    return getattr(detector, "rpn_head", None) or detector.bbox_head


def observed(detector: Any, data: Any) -> Any:
    """Return a student's observation after its losses, whose samples are drawn from seed 0."""
    observation = observe(detector, data, frozen=False)
    torch.manual_seed(0)
    observation.losses()
    return observation


# --- Detection losses and the assignment behind them ---------------------------------------


@pytest.mark.parametrize("family", [*ONE_STAGE, *TWO_STAGE])
@pytest.mark.parametrize("boxes", [(3, 2), (3, 0), (0, 0)], ids=str)
def test_losses_are_bit_identical_to_mmdets(build, batch, family, boxes):
    detector, data = build(family), batch(boxes)
    torch.manual_seed(0)  # the RPN and the second stage draw their samples
    losses = observe(detector, data, frozen=False).losses()
    torch.manual_seed(0)
    mmdet_losses = detector.loss(data.inputs, data.samples)
    assert losses.keys() == mmdet_losses.keys()
    for name, value in mmdet_losses.items():
        torch.testing.assert_close(losses[name], value, rtol=0, atol=0)


def valid(observation: Any, image: int) -> Tensor:
    """Return a mask (N,) of the priors in the padded image and in its border, by arithmetic."""
    meta, head = observation.batch.samples[image].metainfo, observation.head
    flags = []
    for level, priors in enumerate(observation.level_priors):
        rows, columns = observation.outputs[0][level].shape[2:]
        height, width = (-(-side // observation.strides[level]) for side in meta["pad_shape"])
        cells = [
            row < height and column < width for row in range(rows) for column in range(columns)
        ]
        flags += [cell for cell in cells for _ in range(len(priors) // len(cells))]
    border = head.train_cfg["allowed_border"]
    if border < 0:
        return torch.tensor(flags)
    height, width = meta["img_shape"]
    limits = torch.tensor([width, height]) + border
    priors = observation.priors
    inside = (priors[:, :2] >= -border).all(1) & (priors[:, 2:] < limits).all(1)
    return torch.tensor(flags) & inside


def assigned_by_hand(observation: Any, image: int) -> Tensor:
    """Return the assignment (N,) of an anchor head's assigner, called on the valid priors."""
    from mmdet.models.dense_heads import RPNHead

    inside, truth = valid(observation, image), observation.batch.samples[image].gt_instances
    if isinstance(observation.head, RPNHead):
        truth = InstanceData(bboxes=truth.bboxes, labels=torch.zeros_like(truth.labels))
    arguments = [InstanceData(priors=observation.priors[inside])]
    if type(observation.head.assigner).__name__ == "ATSSAssigner":  # candidates from each level
        levels = [len(level) for level in observation.level_priors]
        arguments.append([int(part.sum()) for part in inside.split(levels)])
    result = observation.head.assigner.assign(*arguments, truth, None)
    assignment = torch.full((len(inside),), -1)
    assignment[inside] = (result.gt_inds - 1).clamp(min=-1)
    return assignment


@pytest.mark.parametrize("family", [*ANCHORS, *TWO_STAGE])
def test_assignment_is_the_assigners(build, batch, family):
    observation = observed(build(family), batch())
    expected = [assigned_by_hand(observation, image) for image in range(2)]
    assert torch.equal(observation.assignment, torch.stack(expected))
    assert (observation.assignment >= 0).any(1).all()


def test_assignment_of_points_worked_out_by_hand(build, batch):
    """FCOS assigns the smallest object around a point whose sides are in the level's range."""
    detector, data = build("fcos"), batch()
    observation = observed(detector, data)
    ranges = [
        reach
        for level, reach in zip(
            observation.level_priors, detector.bbox_head.regress_ranges, strict=True
        )
        for _ in level
    ]
    for image, boxes in enumerate(data.gt_boxes):
        expected = []
        for (x, y), (nearest, furthest) in zip(
            observation.priors[:, :2].tolist(), ranges, strict=True
        ):
            match, smallest = -1, float("inf")
            for index, (left, top, right, bottom) in enumerate(boxes.tolist()):
                sides = x - left, y - top, right - x, bottom - y
                area = (right - left) * (bottom - top)
                if min(sides) > 0 and nearest <= max(sides) <= furthest and area < smallest:
                    match, smallest = index, area
            expected.append(match)
        assert observation.assignment[image].tolist() == expected
        assert max(expected) >= 0


def test_assignment_of_the_grid_is_that_of_a_cell_around_an_objects_center(build, batch):
    """YOLOv3 assigns at least one anchor to each object, always in the cell of its center."""
    data = batch()
    observation = observed(build("yolov3"), data)
    for image, boxes in enumerate(data.gt_boxes):
        positive = (observation.assignment[image] >= 0).nonzero().flatten()
        objects = boxes[observation.assignment[image, positive]]
        strides = observation.prior_strides[positive, None]
        cells = [
            ((corners[:, :2] + corners[:, 2:]) / 2 / strides).floor()
            for corners in (objects, observation.priors[positive])
        ]
        assert torch.equal(*cells)
        assert set(observation.assignment[image, positive].tolist()) == set(range(len(boxes)))


def test_an_image_padded_less_than_its_batch_has_no_positive_prior_outside(build, batch):
    data = batch()
    shapes = [data.samples[1].metainfo[key] for key in ("img_shape", "pad_shape")]
    assert shapes == [(40, 48), (64, 64)]
    observation = observed(build("retinanet"), data)
    inside = valid(observation, 1)
    assert 0 < inside.sum() < len(inside)
    assert (observation.assignment[1, ~inside] == -1).all()
    assert not observation.sampled[1, ~inside].any()
    assert set(observation.assignment[1].tolist()) == {-1, 0, 1}


@pytest.mark.parametrize("family", [*ONE_STAGE, *TWO_STAGE])
def test_assignment_and_samples_give_the_labels_that_the_head_trained_with(build, batch, family):
    data = batch()
    observation = observe(build(family), data, frozen=False)
    targets = trained(observation, data)
    sampled, assignment = observation.sampled, observation.assignment
    assert torch.equal(sampled, targets.weights > 0)
    background = 1 if family in TWO_STAGE else CLASSES
    for image, assigned in enumerate(assignment):
        positive = (assigned >= 0) & sampled[image]
        assert positive.any()
        assert torch.equal(positive, targets.labels[image] < background)
        labels = data.gt_labels[image][assigned[positive]] * (family not in TWO_STAGE)
        assert torch.equal(labels, targets.labels[image][positive])


@pytest.mark.parametrize("border", [-1, 0, 4])
@pytest.mark.parametrize("family", ["retinanet", "gfl"])
def test_priors_that_cross_the_border_are_left_out(build, batch, family, border):
    detector, data = build(family), batch()
    detector.bbox_head.train_cfg["allowed_border"] = border
    observation = observe(detector, data, frozen=False)
    targets = trained(observation, data)
    assert torch.equal(observation.assignment >= 0, targets.labels < CLASSES)
    assert torch.equal(observation.sampled, targets.weights > 0)
    left_out = ~torch.stack([valid(observation, image) for image in range(2)])
    assert not observation.sampled[left_out].any()


@pytest.mark.parametrize("family", ["retinanet", "ssd300", "fcos", "yolov3", "yolox"])
def test_targets_of_candidates_are_what_the_head_regresses(build, batch, family):
    data = batch()
    observation = observe(build(family), data, frozen=False)
    codes = trained(observation, data).codes[observation.assignment >= 0]
    targets = observation.candidate_targets(observation.candidates.positive)
    torch.testing.assert_close(targets, codes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [*ONE_STAGE, *TWO_STAGE])
def test_without_objects_nothing_is_assigned(build, batch, family):
    observation = observed(build(family), batch((2, 0)))
    assert (observation.assignment[0] >= 0).any()
    assert (observation.assignment[1] == -1).all()


@pytest.mark.parametrize("family", [*ONE_STAGE, *TWO_STAGE])
def test_the_detector_is_not_changed(build, batch, family, monkeypatch):
    detector = build(family)
    head, second = head_of(detector), getattr(detector, "roi_head", None)
    owners = [
        owner for owner in (head, getattr(head, "sampler", None), second) if owner is not None
    ]
    before = [set(vars(owner)) for owner in owners]
    observed(detector, batch())
    assert [set(vars(owner)) for owner in owners] == before

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        if second is None:
            by_image = not hasattr(head, "get_targets")  # YOLOX
            owner, name = (head.assigner, "assign") if by_image else (head, "get_targets")
            patch.setattr(owner, name, fail)
        else:
            stage = second.bbox_head[0] if family == "cascade_rcnn" else second.bbox_head
            patch.setattr(stage, "loss_and_target", fail)
        with pytest.raises(ZeroDivisionError):
            observed(detector, batch())
    assert [set(vars(owner)) for owner in owners] == before


# --- Order of priors, and decoding ---------------------------------------------------------


def to_maps(by_prior: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Return (B, N, K) as maps (B, A*K, H, W) of the given levels' sizes."""
    maps, start = [], 0
    for level in like:
        rows, columns = level.shape[2:]
        count = rows * columns * level.shape[1] // by_prior.shape[2]
        part = by_prior[:, start : start + count].reshape(len(level), rows, columns, -1)
        maps.append(part.permute(0, 3, 1, 2))
        start += count
    assert start == by_prior.shape[1]
    return maps


@pytest.fixture(params=ONE_STAGE)
def spread(request: pytest.FixtureRequest, build: Any, batch: Any) -> SimpleNamespace:
    """Return an observation with boxes far from priors, and 12 confident priors per image."""
    detector = build(request.param).eval()
    observation = observe(detector, batch(), frozen=False)
    torch.manual_seed(5)
    logits = torch.full_like(observation.logits, -30)
    if observation.softmax:
        logits[..., -1] = 0
    count = logits.shape[1]
    priors = torch.stack([torch.randperm(count)[:12].sort().values for _ in range(2)])
    priors[:, -1] = count - 1  # the last level
    labels = torch.randint(0, CLASSES, (2, 12))
    for image in range(2):
        logits[image, priors[image], labels[image]] = torch.linspace(2, -2, 12)
    codes = torch.randn_like(observation.raw_codes) * (3.0 if "Integral" in str(detector) else 0.4)
    in_pixels = request.param in ("fcos", "rtmdet")
    codes = codes * observation.prior_strides[:, None] if in_pixels else codes
    spread_out = observe(detector, observation.batch, frozen=False)
    if request.param == "yolov3":
        codes[..., 4] = 30
        spread_out.outputs = (to_maps(torch.cat([codes, logits], 2), observation.outputs[0]),)
    else:
        scores, boxes, *centerness = observation.outputs
        certain = [[torch.full_like(level, 30) for level in levels] for levels in centerness]
        spread_out.outputs = (to_maps(logits, scores), to_maps(codes, boxes), *certain)
    return SimpleNamespace(
        detector=detector,
        observation=spread_out,
        logits=logits,
        codes=codes,
        priors=priors,
        labels=labels,
    )


def test_boxes_and_scores_are_those_that_mmdet_predicts(spread):
    """Scores fall with the prior's index here, and mmdet lists a level's boxes by falling score."""
    from mmdet.models.dense_heads import YOLOV3Head, YOLOXHead

    observation, detector = spread.observation, spread.detector
    metas = [sample.metainfo for sample in observation.batch.samples]
    settings = ConfigDict({**detector.test_cfg, "min_bbox_size": -1, "nms_pre": 10_000})
    results = detector.bbox_head.predict_by_feat(
        *([level.clone() for level in levels] for levels in observation.outputs),
        batch_img_metas=metas, cfg=settings, with_nms=False,
    )  # fmt: skip
    for image, result in enumerate(results):
        prior = spread.priors[image]
        boxes = observation.boxes(torch.full_like(prior, image), prior)
        height, width = metas[image]["img_shape"]
        limits = torch.tensor([width, height, width, height])
        if not isinstance(detector.bbox_head, YOLOV3Head | YOLOXHead):  # which do not clip
            boxes = boxes.clamp(min=0).minimum(limits)
        torch.testing.assert_close(boxes, result.bboxes, rtol=1e-4, atol=1e-4)
        assert torch.equal(result.labels, spread.labels[image])
        scores = observation.probabilities[image, prior, result.labels]
        torch.testing.assert_close(result.scores, scores)
        torch.testing.assert_close(scores, torch.linspace(2, -2, 12).sigmoid())


def test_boxes_send_gradients_to_their_own_codes_only(spread):
    observation = spread.observation
    codes = observation.raw_codes.requires_grad_()
    image, prior = torch.tensor([0, 1]), spread.priors[:, 3]
    observation.boxes(image, prior).sum().backward()
    touched = codes.grad.ne(0).any(2).nonzero()
    assert touched.tolist() == torch.stack([image, prior], 1).tolist()


def test_encoding_is_the_inverse_of_decoding(spread):
    observation = spread.observation
    for image in range(2):
        prior = spread.priors[image]
        where = torch.full_like(prior, image), prior
        codes = observation.codes(*where)
        encoded = observation.encode(observation.boxes(*where), prior)
        torch.testing.assert_close(encoded, codes, rtol=1e-3, atol=1e-3)
        assert codes.abs().max() > 0.1


def test_logits_and_codes_keep_the_order_of_the_maps(spread):
    torch.testing.assert_close(spread.observation.logits, spread.logits, rtol=0, atol=0)
    torch.testing.assert_close(spread.observation.raw_codes, spread.codes, rtol=0, atol=0)


@pytest.mark.parametrize("family", [*ONE_STAGE, *TWO_STAGE])
def test_priors_lie_at_their_cells_in_the_order_of_levels(build, batch, family):
    observation = observed(build(family), batch())
    offset = 0.5 if family in ("fcos", "ssd300", "yolov3") else 0
    assert len(observation.level_priors) == len(observation.strides) == len(observation.neck)
    for level, priors in enumerate(observation.level_priors):
        rows, columns = observation.neck[level].shape[2:]
        centers = ((priors[:, :2] + priors[:, 2:]) / 2).view(rows, columns, -1, 2)
        grid = torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy")
        expected = (torch.stack(grid, 2) + offset) * observation.strides[level]
        torch.testing.assert_close(centers, expected[:, :, None].expand_as(centers).float())
    count = len(observation.priors)
    assert observation.logits.shape[:2] == observation.assignment.shape == (2, count)
    assert observation.prior_strides.shape == (count,)
    assert len(observation.every_prior) == 2 * count


@pytest.mark.parametrize("family", [*ONE_STAGE, *TWO_STAGE])
def test_maps_of_probabilities_hold_those_of_the_priors(build, batch, family):
    from kd.observers.dense import by_prior

    observation = observe(build(family), batch(), frozen=False)
    outputs = observation.logits.shape[2]
    probabilities = by_prior(observation.probability_maps, outputs)
    if observation.softmax:
        torch.testing.assert_close(probabilities.sum(2), torch.ones(probabilities.shape[:2]))
        probabilities = probabilities[..., :-1]
    torch.testing.assert_close(probabilities, observation.probabilities)
    assert probabilities.shape[2] == (1 if family in TWO_STAGE else CLASSES)
