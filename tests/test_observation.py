"""What methods see of a detector equals what mmdet itself assigns, computes and decodes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from kd.observation import Observation, observe

torch.set_num_threads(1)

FAMILIES = ["retinanet", "gfl"]


@pytest.fixture(params=FAMILIES)
def detector(request: pytest.FixtureRequest, build: Any) -> Any:
    return build(request.param)


def count_calls(module: Any) -> list[None]:
    """Return a list that grows by one with each forward of the module."""
    calls: list[None] = []
    module.register_forward_hook(lambda *_: calls.append(None))
    return calls


# --- Detection losses and the assignment behind them ---------------------------------------


@pytest.mark.parametrize("boxes", [(3, 2), (3, 0), (0, 0)], ids=str)
def test_losses_are_mmdets_to_the_bit(detector, batch, boxes):
    data = batch(boxes)
    found = observe(detector, data, frozen=False).losses()
    wanted = detector.loss(data.inputs, data.samples)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def valid(detector: Any, sample: Any) -> Tensor:
    """Return (N,): whether a prior's cell lies in the image as padded, by arithmetic alone."""
    flags = []
    for stride in (8, 16, 32, 64, 128):
        rows, columns = (-(-side // stride) for side in sample.metainfo["batch_input_shape"])
        height, width = (-(-side // stride) for side in sample.metainfo["pad_shape"])
        cells = [
            row < height and column < width for row in range(rows) for column in range(columns)
        ]
        flags += [cell for cell in cells for _ in range(detector.bbox_head.num_base_priors)]
    return torch.tensor(flags)


def assigned_by_hand(detector: Any, observation: Observation, sample: Any) -> Tensor:
    """Return (N,) from the head's assigner, called on the valid priors."""
    inside = valid(detector, sample)
    arguments = [InstanceData(priors=observation.priors[inside])]
    if detector.bbox_head.num_base_priors == 1:  # ATSS takes its candidates from each level
        levels = [level[0].numel() for level in observation.outputs[0]]
        levels = [size // detector.bbox_head.cls_out_channels for size in levels]
        arguments.append([int(part.sum()) for part in inside.split(levels)])
    result = detector.bbox_head.assigner.assign(*arguments, sample.gt_instances, None)
    everywhere = torch.full((len(inside),), -1)
    everywhere[inside] = (result.gt_inds - 1).clamp(min=-1)
    return everywhere


def test_assignment_is_the_assigners(detector, batch):
    data = batch()
    observation = observe(detector, data, frozen=False)
    observation.losses()
    wanted = [assigned_by_hand(detector, observation, sample) for sample in data.samples]
    assert torch.equal(observation.assignment, torch.stack(wanted))


def test_an_image_padded_less_than_its_batch_has_no_positive_prior_outside(detector, batch):
    data = batch()
    shapes = [data.samples[1].metainfo[key] for key in ("img_shape", "pad_shape")]
    assert shapes == [(40, 48), (64, 64)]
    observation = observe(detector, data, frozen=False)
    observation.losses()
    inside = valid(detector, data.samples[1])
    assert 0 < inside.sum() < len(inside)
    assert (observation.assignment[1, ~inside] == -1).all()
    assert set(observation.assignment[1].tolist()) == {-1, 0, 1}


@pytest.mark.parametrize("border", [-1, 0, 4])
def test_assignment_gives_the_labels_that_the_head_trained_with(detector, batch, border):
    """With a border, priors that cross the image are left out of the assignment."""
    detector.bbox_head.train_cfg["allowed_border"] = border
    targets, make = [], detector.bbox_head.get_targets

    def recorded(*args: Any, **kwargs: Any) -> tuple:
        targets.extend(make(*args, **kwargs))
        return tuple(targets)

    detector.bbox_head.get_targets = recorded
    data = batch()
    observation = observe(detector, data, frozen=False)
    observation.losses()
    by_level = next(target for target in targets if target[0].dtype == torch.long)
    labels = torch.cat(by_level, 1)
    for image, assigned in enumerate(observation.assignment):
        positive = assigned >= 0
        assert positive.any()
        assert torch.equal(positive, labels[image] < 8)
        assert torch.equal(data.gt_labels[image][assigned[positive]], labels[image][positive])


def test_every_object_of_an_image_keeps_its_own_index(build, batch):
    """RetinaNet gives each box at least its best prior (min_pos_iou is 0)."""
    observation = observe(build("retinanet"), batch((3, 2)), frozen=False)
    observation.losses()
    assert [set(row.tolist()) - {-1} for row in observation.assignment] == [{0, 1, 2}, {0, 1}]


def test_without_objects_nothing_is_assigned(detector, batch):
    observation = observe(detector, batch((2, 0)), frozen=False)
    observation.losses()
    assert (observation.assignment[0] >= 0).any()
    assert (observation.assignment[1] == -1).all()


def test_the_head_is_left_as_it_was(detector, batch):
    head = detector.bbox_head
    before = dict(vars(head)), dict(vars(head.assigner))
    observe(detector, batch(), frozen=False).losses()
    assert vars(head.assigner) == before[1]
    assert "_get_targets_single" not in vars(head)
    data = batch()
    del data.samples[0].gt_instances
    with pytest.raises(AttributeError):
        observe(detector, data, frozen=False).losses()
    assert vars(head.assigner) == before[1]
    assert "_get_targets_single" not in vars(head)


# --- Order of priors, and decoding ---------------------------------------------------------


def to_maps(by_prior: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Return (B, N, K) as maps (B, A*K, H, W): level, row, column, anchor, output."""
    maps, start = [], 0
    for level in like:
        images, channels, rows, columns = level.shape
        count = rows * columns * channels // by_prior.shape[2]
        part = by_prior[:, start : start + count].reshape(images, rows, columns, channels)
        maps.append(part.permute(0, 3, 1, 2))
        start += count
    assert start == by_prior.shape[1]
    return maps


@pytest.fixture
def spread(detector: Any, batch: Any) -> SimpleNamespace:
    """An observation with boxes far from priors, and 12 confident (prior, class) per image."""
    torch.manual_seed(5)
    observation = observe(detector, batch(), frozen=False)
    scores, boxes = observation.outputs
    spread_out = 3.0 if detector.bbox_head.num_base_priors == 1 else 0.4
    boxes = [torch.randn_like(level) * spread_out for level in boxes]
    logits = torch.full_like(observation.logits, -30)
    count = logits.shape[1]
    chosen = torch.stack([torch.randperm(count)[:12].sort().values for _ in range(2)])
    chosen[:, -1] = count - 1  # the coarsest level
    labels = torch.randint(0, 8, (2, 12))
    for image in range(2):
        logits[image, chosen[image], labels[image]] = torch.linspace(2, -2, 12)
    seen = observe(detector, observation.batch, frozen=False)
    seen.outputs = (to_maps(logits, scores), boxes)
    return SimpleNamespace(observation=seen, logits=logits, chosen=chosen, labels=labels)


def predicted(detector: Any, observation: Observation) -> list[InstanceData]:
    """Return mmdet's predictions before non-maximum suppression, level by level."""
    metas = [sample.metainfo for sample in observation.batch.samples]
    settings = ConfigDict({**detector.test_cfg, "min_bbox_size": -1})  # keep boxes off the image
    return detector.bbox_head.predict_by_feat(
        *observation.outputs, batch_img_metas=metas, cfg=settings, with_nms=False
    )


def test_boxes_are_those_that_mmdet_predicts(detector, spread):
    """mmdet lists a level's boxes by falling score, as the logits fall with the prior here."""
    for image, wanted in enumerate(predicted(detector, spread.observation)):
        prior = spread.chosen[image]
        found = spread.observation.boxes(torch.full_like(prior, image), prior)
        height, width = spread.observation.batch.samples[image].metainfo["img_shape"]
        limits = torch.tensor([width, height, width, height])
        torch.testing.assert_close(found.clamp(min=0).minimum(limits), wanted.bboxes)
        assert torch.equal(wanted.labels, spread.labels[image])
        torch.testing.assert_close(wanted.scores, torch.linspace(2, -2, 12).sigmoid())


def test_boxes_send_gradients_to_their_own_codes_only(spread):
    maps = [level.requires_grad_() for level in spread.observation.outputs[1]]
    image, prior = torch.tensor([0, 1]), spread.chosen[:, 3]
    spread.observation.boxes(image, prior).sum().backward()
    touched = sum(int((level.grad != 0).sum()) for level in maps if level.grad is not None)
    per_prior = spread.observation._box_codes.shape[2]
    assert 0 < touched <= 2 * per_prior


def test_logits_keep_the_order_of_the_maps(spread):
    torch.testing.assert_close(spread.observation.logits, spread.logits, rtol=0, atol=0)


def test_logits_priors_and_assignment_count_the_same_priors(detector, batch):
    observation = observe(detector, batch(), frozen=False)
    observation.losses()
    cells = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 + 1 * 1
    count = cells * detector.bbox_head.num_base_priors
    assert observation.logits.shape == (2, count, 8)
    assert observation.priors.shape == (count, 4)
    assert observation.assignment.shape == (2, count)


def test_priors_lie_at_their_cells(detector, batch):
    observation = observe(detector, batch(), frozen=False)
    centres = (observation.priors[:, :2] + observation.priors[:, 2:]) / 2
    anchors = detector.bbox_head.num_base_priors
    by_cell = centres[: 96 * anchors].view(8, 12, anchors, 2)
    assert torch.equal(by_cell[3, 5], torch.tensor([5.0, 3.0]).mul(8).expand(anchors, 2))


# --- What is computed, how often, and with which gradients ---------------------------------


def test_reading_the_neck_does_not_run_the_head(detector, batch):
    backbone, head = count_calls(detector.backbone), count_calls(detector.bbox_head)
    teacher = observe(detector.eval(), batch(), frozen=True)
    assert (len(backbone), len(head)) == (0, 0)
    assert teacher.neck[0].shape[-2:] == (8, 12)
    assert (len(backbone), len(head)) == (1, 0)
    assert teacher.logits.shape[0] == 2
    assert (len(backbone), len(head)) == (1, 1)


def test_a_step_runs_each_part_once(detector, batch):
    backbone, head = count_calls(detector.backbone), count_calls(detector.bbox_head)
    student = observe(detector, batch(), frozen=False)
    student.losses()
    image, prior = (student.assignment >= 0).nonzero(as_tuple=True)
    assert student.boxes(image, prior).shape == (len(prior), 4)
    assert len(student.neck) == len(student.class_maps) == 5
    assert student.logits.shape[:2] == student.assignment.shape
    assert (len(backbone), len(head)) == (1, 1)


@pytest.mark.parametrize("frozen", [True, False], ids=["teacher", "student"])
def test_only_a_students_outputs_carry_gradients(detector, batch, frozen):
    observation = observe(detector, batch(), frozen=frozen)
    index = torch.tensor([0, 1])
    outputs = [*observation.neck, *observation.class_maps, observation.logits]
    outputs.append(observation.boxes(index, index))
    assert {output.requires_grad for output in outputs} == {not frozen}
    assert torch.is_grad_enabled()


def test_class_maps_logits_and_boxes_are_float32_under_autocast(detector, batch):
    with torch.autocast("cpu", torch.bfloat16):
        observation = observe(detector, batch(), frozen=False)
        assert observation.outputs[0][0].dtype == torch.bfloat16
    index = torch.tensor([0, 1])
    found = [*observation.class_maps, observation.logits, observation.boxes(index, index)]
    assert {output.dtype for output in found} == {torch.float32}


def test_a_softmax_head_says_so(build, batch):
    detector = build("retinanet")
    assert not observe(detector, batch(), frozen=True).softmax
    detector.bbox_head.use_sigmoid_cls = False
    assert observe(detector, batch(), frozen=True).softmax


# --- The batch -----------------------------------------------------------------------------


def test_offsets_turn_an_index_in_the_image_into_one_in_the_batch(batch):
    data = batch((3, 2))
    assert data.gt_offsets.tolist() == [0, 3]
    joined = torch.cat(data.gt_boxes)
    assert torch.equal(joined[data.gt_offsets[1] + 1], data.gt_boxes[1][1])
    assert [len(labels) for labels in data.gt_labels] == [3, 2]
    assert batch((0, 2)).gt_offsets.tolist() == [0, 0]
