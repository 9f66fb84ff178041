"""Selection of the final boxes: per-class NMS and the best detections of each image.

Everything is computed for a batch of any size. ONNX has an operator for NMS; TorchScript loops over
the images.
"""

from typing import Any, NamedTuple

import torch
import torchvision  # noqa: F401, registers its operators
from torch import Tensor
from torch.nn import functional

NO_OBJECT = -1
"""Label of the rows that fill an image's detections up to the fixed number."""


class ScoredBoxes(NamedTuple):
    """Boxes of a batch before NMS."""

    boxes: Tensor
    """``(B, K, 4)``: left, top, right, bottom in pixels."""
    scores: Tensor
    """``(B, K)``; -1 for a box that is not a candidate."""
    labels: Tensor
    """``(B, K)``: indices of classes; NMS compares boxes of one label."""


class BatchDetections(NamedTuple):
    """The best boxes of each image; rows without an object have score 0 and label -1."""

    boxes: Tensor
    """``(B, D, 4)``: left, top, right, bottom in pixels."""
    scores: Tensor
    """``(B, D)``, in descending order."""
    labels: Tensor
    """``(B, D)``"""


def best(candidates: ScoredBoxes, iou_threshold: float, most: int) -> BatchDetections:
    """Return the ``most`` best boxes of each image after NMS within each label.

    Boxes of different labels are moved apart before one NMS over all, as in mmcv's ``batched_nms``.
    """
    boxes, scores, labels = candidates
    is_candidate = scores > 0
    used = torch.where(is_candidate[..., None], boxes, torch.zeros_like(boxes))
    distance = used.amax(dim=(1, 2), keepdim=True) + 1
    apart = used + labels[..., None].to(used.dtype) * distance
    image, index = _selected(apart, scores, iou_threshold, most).unbind(1)
    is_selected = torch.zeros_like(scores).index_put((image, index), torch.ones_like(scores[0, 0]))
    ranked = torch.where(is_selected > 0, scores, torch.zeros_like(scores))
    # Small images have fewer candidates than detections.
    ranked = functional.pad(ranked, (0, most))
    top_scores, top = ranked.topk(most, dim=1)
    top_boxes = functional.pad(used, (0, 0, 0, most)).gather(1, top[..., None].expand(-1, -1, 4))
    top_labels = functional.pad(labels, (0, most)).gather(1, top)
    return BatchDetections(
        top_boxes * (top_scores > 0)[..., None].to(top_boxes.dtype),
        top_scores,
        torch.where(top_scores > 0, top_labels, torch.full_like(top_labels, NO_OBJECT)),
    )


def largest(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return values and indices of the ``number`` largest scores of each row (B, N), or of all."""
    columns = torch._shape_as_tensor(scores)[1]
    count: Any = torch.minimum(columns, torch.full_like(columns, number))
    values, indices = scores.topk(count, dim=1)
    return values, indices


def _selected(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    """Return image and index (M, 2) of the boxes that NMS selects, at most ``most`` per image."""
    if torch.onnx.is_in_onnx_export():
        indices: Tensor = _OnnxSelection.apply(boxes, scores, iou_threshold, most)
        return indices
    if torch.jit.is_tracing():
        traced: Tensor = _script(boxes, scores, iou_threshold, most)
        return traced
    return _loop(boxes, scores, iou_threshold, most)


def _loop(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    selected = [torch.zeros([0, 2], dtype=torch.long, device=boxes.device)]
    for image in range(boxes.shape[0]):
        valid = (scores[image] > 0).nonzero()[:, 0]
        picks = torch.ops.torchvision.nms(boxes[image][valid], scores[image][valid], iou_threshold)
        index = valid[picks[:most]]
        selected.append(torch.stack([torch.full_like(index, image), index], dim=1))
    return torch.cat(selected)


_script = torch.jit.script(_loop)


class _OnnxSelection(torch.autograd.Function):
    """``_loop`` as ONNX's operator NonMaxSuppression."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
        return _loop(boxes, scores, iou_threshold, most)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou_threshold: float, most: int) -> Any:
        def constant(value: Any) -> Any:
            return g.op("Constant", value_t=torch.tensor(value))

        rows = g.op(
            "NonMaxSuppression",
            boxes,
            g.op("Unsqueeze", scores, constant([1])),
            constant([most]),
            constant([iou_threshold]),
            constant([0.0]),
        )
        # A row has image, class and index. There is one class.
        return g.op("Gather", rows, constant([0, 2]), axis_i=1)
