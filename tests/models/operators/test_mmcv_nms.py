"""NMS and Soft-NMS of ``mmcv.ops`` against slow references in Python floats (float64)."""

import math

import numpy as np
import pytest
import torch

from kd.models.mmcv_ops import install

INSTALLED = install()

from mmcv import ops  # noqa: E402

torch.set_num_threads(1)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
COMPILED = "mmcv.ops is compiled here; install requirements.lock, which has mmcv-lite"
pytestmark = pytest.mark.skipif(not INSTALLED, reason=COMPILED)


def random_boxes(count: int, seed: int, whole: bool = False) -> torch.Tensor:
    """Return boxes (N, 4) near the origin, some of them partly or wholly left of or above it."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 20 - 4
    size = torch.rand(count, 2, generator=generator) * 10
    boxes = torch.cat((corner, corner + size), dim=1)
    return boxes.round() if whole else boxes


def distinct_scores(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randperm(count, generator=generator) + 1) / (count + 1)


def iou(a: list[float], b: list[float], offset: int) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def reference_nms(boxes, scores, threshold: float, offset: int = 0) -> list[int]:
    boxes, scores = boxes.double().tolist(), scores.double().tolist()
    indices: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[index], boxes[other], offset) <= threshold for other in indices):
            indices.append(index)
    return indices


# --- NMS -----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.6, 0.7, 1.0])
def test_nms_keeps_what_the_reference_keeps(threshold, offset, device):
    for seed in range(12):
        boxes = random_boxes(40, seed, whole=seed % 2 == 0)
        scores = distinct_scores(40, seed)
        dets, indices = ops.nms(boxes.to(device), scores.to(device), threshold, offset=offset)
        assert indices.tolist() == reference_nms(boxes, scores, threshold, offset)
        assert torch.equal(dets.cpu(), torch.cat((boxes, scores[:, None]), dim=1)[indices.cpu()])


@pytest.mark.parametrize("device", DEVICES)
def test_nms_of_no_box_and_of_one(device):
    dets, indices = ops.nms(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5)
    assert dets.shape == (0, 5)
    assert indices.shape == (0,)
    assert indices.dtype == torch.long
    one = torch.tensor([[1.0, 2.0, 3.0, 4.0]], device=device)
    assert ops.nms(one, torch.tensor([0.1], device=device), 0.5)[1].tolist() == [0]


def test_nms_of_degenerate_boxes():
    same = torch.tensor([[1.0, 1.0, 5.0, 5.0]]).repeat(4, 1)
    scores = torch.tensor([0.1, 0.4, 0.3, 0.2])
    assert ops.nms(same, scores, 0.99)[1].tolist() == [1]
    # Without area there is no overlap, so identical empty boxes all stay; offset 1 gives area.
    points = torch.tensor([[2.0, 2.0, 2.0, 2.0]]).repeat(4, 1)
    assert ops.nms(points, scores, 0.5)[1].tolist() == [1, 2, 3, 0]
    assert ops.nms(points, scores, 0.5, offset=1)[1].tolist() == [1]


def test_nms_keeps_a_pair_whose_iou_equals_the_threshold():
    """6/10 in float32 is larger than 0.6 in float64: a mixed comparison drops the second box."""
    boxes = torch.tensor([[0.0, 0.0, 8.0, 1.0], [2.0, 0.0, 10.0, 1.0]])
    scores = torch.tensor([0.9, 0.8])
    assert ops.nms(boxes, scores, 0.6)[1].tolist() == [0, 1]
    assert ops.nms(boxes, scores, 0.599)[1].tolist() == [0]
    assert ops.nms(boxes.double(), scores.double(), 0.6)[1].tolist() == [0, 1]


def test_nms_offset_is_added_to_each_side():
    """IoU 36/81 in continuous coordinates, 50/100 where a pixel is one wide."""
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 4.0]])
    scores = torch.tensor([0.9, 0.8])
    assert len(ops.nms(boxes, scores, 0.47, offset=0)[1]) == 2
    assert len(ops.nms(boxes, scores, 0.47, offset=1)[1]) == 1


def test_nms_with_equal_scores_returns_descending_scores_and_separate_boxes():
    boxes = random_boxes(60, 3)
    scores = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(3)) / 4
    dets, indices = ops.nms(boxes, scores, 0.4)
    assert (dets[:-1, 4] >= dets[1:, 4]).all()
    corners = boxes[indices].tolist()
    assert all(iou(a, b, 0) <= 0.4 for i, a in enumerate(corners) for b in corners[:i])


def test_nms_score_threshold_and_max_num():
    boxes, scores = random_boxes(40, 5), distinct_scores(40, 5)
    expected = reference_nms(boxes, scores, 0.5)
    above = [index for index in expected if scores[index] > 0.6]
    assert 2 < len(above) < len(expected)
    assert ops.nms(boxes, scores, 0.5, score_threshold=0.6)[1].tolist() == above
    assert ops.nms(boxes, scores, 0.5, max_num=2)[1].tolist() == expected[:2]
    assert ops.nms(boxes, scores, 0.5, score_threshold=0.6, max_num=2)[1].tolist() == above[:2]
    assert ops.nms(boxes, scores, 0.5, score_threshold=2.0)[0].shape == (0, 5)


def test_nms_accepts_numpy_and_mixed_precision():
    boxes, scores = random_boxes(30, 7, whole=True), distinct_scores(30, 7)
    expected = reference_nms(boxes, scores, 0.5)
    dets, indices = ops.nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(dets, np.ndarray)
    assert indices.tolist() == expected
    half, brain = torch.float16, torch.bfloat16
    for box_type, score_type in [(torch.float32, half), (half, half), (half, brain)]:
        assert ops.nms(boxes.to(box_type), scores.to(score_type), 0.5)[1].tolist() == expected


# --- batched NMS ---------------------------------------------------------------------------


def reference_batched(boxes, scores, classes, threshold: float) -> list[int]:
    indices: list[int] = []
    for label in classes.unique():
        members = (classes == label).nonzero()[:, 0]
        rows = reference_nms(boxes[members], scores[members], threshold)
        indices += members[rows].tolist()
    return sorted(indices, key=lambda index: -scores[index])


@pytest.fixture
def crowd() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return sixty boxes inside an image with their scores and three classes."""
    generator = torch.Generator().manual_seed(11)
    return (
        random_boxes(60, 11) + 4,
        distinct_scores(60, 11),
        torch.randint(0, 3, (60,), generator=generator),
    )


@pytest.mark.parametrize("split", [10000, 10])
def test_batched_nms_treats_each_class_alone(crowd, split):
    """A split threshold below the number of boxes takes another path to the same result."""
    boxes, scores, classes = crowd
    dets, indices = ops.batched_nms(
        boxes, scores, classes, {"type": "nms", "iou_threshold": 0.3, "split_thr": split}
    )
    assert indices.tolist() == reference_batched(boxes, scores, classes, 0.3)
    assert torch.equal(dets, torch.cat((boxes, scores[:, None]), dim=1)[indices])


def test_batched_nms_class_agnostic(crowd):
    boxes, scores, classes = crowd
    expected = reference_nms(boxes, scores, 0.3)
    assert expected != reference_batched(boxes, scores, classes, 0.3)
    config = {"type": "nms", "iou_threshold": 0.3}
    assert ops.batched_nms(boxes, scores, classes, config, True)[1].tolist() == expected
    config["class_agnostic"] = True
    assert ops.batched_nms(boxes, scores, classes, config)[1].tolist() == expected


@pytest.mark.parametrize("split", [10000, 10])
def test_batched_nms_max_num(crowd, split):
    boxes, scores, classes = crowd
    config = {"type": "nms", "iou_threshold": 0.3, "max_num": 5, "split_thr": split}
    indices = ops.batched_nms(boxes, scores, classes, config)[1]
    assert indices.tolist() == reference_batched(boxes, scores, classes, 0.3)[:5]


def test_batched_nms_without_nms_only_sorts(crowd):
    boxes, scores, classes = crowd
    indices = ops.batched_nms(boxes, scores, classes, None)[1]
    assert torch.equal(indices, scores.argsort(descending=True))


# --- Soft-NMS ------------------------------------------------------------------------------


def reference_soft_nms(boxes, scores, method, threshold, sigma, min_score, offset):
    boxes, remaining = boxes.double().tolist(), dict(enumerate(scores.double().tolist()))
    results: list[tuple[int, float]] = []
    while remaining:
        best = max(remaining, key=remaining.__getitem__)
        results.append((best, remaining.pop(best)))
        for index in list(remaining):
            overlap = iou(boxes[best], boxes[index], offset)
            if method == "gaussian":
                remaining[index] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                remaining[index] *= 1 - overlap if method == "linear" else 0
            if remaining[index] < min_score:
                del remaining[index]
    return results


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_matches_the_reference(method, offset, device):
    for seed in range(8):
        boxes, scores = random_boxes(25, seed, whole=seed % 2 == 0), distinct_scores(25, seed)
        expected = reference_soft_nms(boxes, scores, method, 0.3, 0.4, 0.1, offset)
        dets, indices = ops.soft_nms(
            boxes.to(device), scores.to(device), 0.3, 0.4, 0.1, method=method, offset=offset
        )
        assert indices.tolist() == [index for index, _ in expected]
        assert torch.equal(dets[:, :4].cpu(), boxes[indices.cpu()])
        assert dets[:, 4].tolist() == pytest.approx([score for _, score in expected], rel=1e-4)


def test_soft_nms_of_no_box():
    dets, indices = ops.soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5)
    assert indices.shape == (0,)


def test_soft_nms_by_configuration_treats_each_class_alone(crowd):
    boxes, scores, classes = crowd
    config = {"type": "soft_nms", "iou_threshold": 0.3, "min_score": 0.05}
    dets, indices = ops.batched_nms(boxes, scores, classes, config)
    expected = {}
    for label in range(3):
        members = (classes == label).nonzero()[:, 0].tolist()
        results = reference_soft_nms(
            boxes[members], scores[members], "linear", 0.3, 0.5, 0.05, offset=0
        )
        expected |= {members[index]: score for index, score in results}
    assert dict(zip(indices.tolist(), dets[:, 4].tolist(), strict=True)) == pytest.approx(
        expected, rel=1e-3
    )
