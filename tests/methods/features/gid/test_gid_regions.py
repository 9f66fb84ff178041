"""GID's selection of regions: values by hand, and properties."""

import pytest
import torch
from torchvision.ops import box_iou

from kd.methods.features.gid import (
    GeneralInstanceDistillation,
    gi_score,
    instance_kinds,
    responding_priors,
)
from kd.methods.ops.boxes import clip, shares_inside
from tests.methods.features.gid.gid_scene import View, batch_of, regions, view

torch.set_num_threads(1)


def test_scores_worked_out_by_hand():
    """The most likely class differs: the largest difference is 0.6, that of the largest 0.1."""
    teacher, student = torch.tensor([[0.8, 0.3]]), torch.tensor([[0.2, 0.7]])
    assert gi_score(teacher, student, "difference").item() == pytest.approx(0.6)
    assert gi_score(teacher, student, "maxima").item() == pytest.approx(0.1)


def test_boxes_are_clipped_to_the_image_without_padding():
    clipped = clip(torch.tensor([[-4.0, 3, 70, 50], [80, 2, 90, 9]]), 40, 48)
    assert clipped.tolist() == [[0, 3, 48, 40], [48, 2, 48, 9]]


def test_kinds_worked_out_by_hand():
    """The object is the left half of the image; shares inside are 1, 1, 0.7, 0.5, 0.2 and 0."""
    truth = torch.tensor([[0.0, 0, 50, 100], [0, 0, 1, 1]])
    lefts = [(10, 20), (10, 20), (43, 53), (45, 55), (48, 58), (60, 70)]
    boxes = torch.tensor([[a, 10, b, 20] for a, b in lefts]).float()
    positive = torch.tensor([True, False, False, False, False, False])
    assert shares_inside(boxes, truth)[:, 0].tolist() == pytest.approx([1, 1, 0.7, 0.5, 0.2, 0])
    kinds = {k: v.tolist() for k, v in instance_kinds(boxes, positive, truth).items()}
    assert kinds == {
        "positive": [True, False, False, False, False, False],
        "semi_positive": [False, True, True, False, False, False],
        "negative": [False, False, False, False, True, True],
    }
    nothing = instance_kinds(boxes, torch.zeros(6, dtype=torch.bool), truth[:0])
    assert nothing["negative"].all() and not nothing["semi_positive"].any()


@pytest.fixture
def anchors(quiet_mmdet: None) -> torch.Tensor:
    """Return RetinaNet's anchors of an image of 160 x 128 pixels."""
    from mmdet.models.task_modules.prior_generators import AnchorGenerator

    strides = [8, 16, 32, 64, 128]
    octaves = {"octave_base_scale": 4, "scales_per_octave": 3}
    generator = AnchorGenerator(strides=strides, ratios=[0.5, 1.0, 2.0], **octaves)
    sizes = [(-(-128 // stride), -(-160 // stride)) for stride in strides]
    return torch.cat(generator.grid_priors(sizes, device="cpu"))


def test_the_best_anchors_of_a_small_region_respond(anchors):
    region = torch.tensor([[60.0, 60, 76, 76]])
    assert responding_priors(anchors, region, 0.5).sum() == 4
    assert not responding_priors(anchors, region, 0.5, best=False).any()


def test_anchors_respond_to_regions_that_retinanets_assigner_gives_them(anchors):
    """An anchor matches by an IoU of 0.5, or as the best anchor of a region, however low."""
    from mmdet.models.task_modules.assigners import MaxIoUAssigner
    from mmengine.structures import InstanceData

    generator = torch.Generator().manual_seed(0)
    assigner = MaxIoUAssigner(pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1)
    for _ in range(20):
        corners = torch.rand(5, 2, generator=generator) * torch.tensor([140, 110])
        sides = torch.rand(5, 2, generator=generator) * 40 + 2
        regions = torch.cat([corners, corners + sides], 1)
        objects = InstanceData(bboxes=regions, labels=torch.zeros(5, dtype=torch.long))
        assigned = assigner.assign(InstanceData(priors=anchors), objects).gt_inds > 0
        assert torch.equal(responding_priors(anchors, regions, 0.5), assigned)


def test_the_box_is_that_of_the_more_confident_model():
    student, teacher = view(0, images=1), view(1, images=1)
    student.logits = torch.tensor([[[0.0, 0], [0, 5], [-9, -9], [0, 0], [0, 0]]])
    teacher.logits = torch.tensor([[[3.0, 0], [0, 0], [-9, -9], [0, 0], [-1, -9]]])
    (boxes,) = regions(student, teacher)
    # The scores are 0.45, 0.49, 0, 0 and 0.5, the last of the second class.
    expected = [student.decoded[0, 4], student.decoded[0, 1], teacher.decoded[0, 0]]
    torch.testing.assert_close(boxes[:3], clip(torch.stack(expected), 64, 96))


def test_selection_of_large_regions_by_score_worked_out_by_hand():
    student, teacher = view(0, images=1), view(1, images=1)
    boxes = [
        [0, 0, 20, 20],
        [0, 0, 20, 19],  # best, and overlaps the first
        [40, 40, 60, 50],  # a side of 10 pixels is too short
        [30, 0, 50, 20],
        [60, 0, 71, 11],
    ]
    teacher.decoded = student.decoded = torch.tensor([boxes]).float()
    student.logits, teacher.logits = torch.zeros(1, 5, 2), torch.zeros(1, 5, 2)
    teacher.logits[0, :, 1] = torch.tensor([0.5, 0.9, 0.8, 0.4, 0.6])
    expected = [boxes[row] for row in (1, 4, 3)]
    assert regions(student, teacher)[0].tolist() == expected
    assert regions(student, teacher, count=2)[0].tolist() == expected[:2]
    assert boxes[2] in regions(student, teacher, least_side=9)[0].tolist()
    assert boxes[0] in regions(student, teacher, overlap=0.96)[0].tolist()


def test_regions_lie_in_their_image_hardly_overlap_and_have_no_gradient():
    student, teacher = view(0, gradients=True), view(1)
    sizes = (64, 96), (32, 50)
    method = GeneralInstanceDistillation(count=3)
    boxes_by_image = method.general_instances(student, teacher, batch_of(2, sizes))
    assert [len(boxes) for boxes in boxes_by_image] == [3, 2]
    for boxes, (height, width) in zip(boxes_by_image, sizes, strict=True):
        assert not boxes.requires_grad
        assert boxes.min() >= 0 and (boxes <= torch.tensor([width, height] * 2)).all()
        assert box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.3


def test_an_image_has_the_regions_it_has_alone():
    student, teacher = view(0), view(1)
    both = regions(student, teacher)
    for image in range(2):
        alone = [
            View(**{**vars(v), **{k: getattr(v, k)[image:][:1] for k in ("logits", "decoded")}})
            for v in (student, teacher)
        ]
        (boxes,) = regions(*alone)
        torch.testing.assert_close(boxes, both[image])


def test_ground_truth_and_kinds_of_instances_as_regions():
    student, teacher = view(0), view(1)
    assert regions(student, teacher, instances="truth")[1].tolist() == [[2, 2, 40, 30]]
    student.assignment[:, 3] = 0
    every, positive = regions(student, teacher), regions(student, teacher, instances="positive")
    assert [len(boxes) for boxes in positive] == [1, 1]
    assert all((a == b).all(1).any() for a, b in zip(every, positive, strict=True))
    kinds = ("semi_positive", "negative")
    rest = [len(regions(student, teacher, instances=kind)[0]) for kind in kinds]
    assert rest == [1, 3]
