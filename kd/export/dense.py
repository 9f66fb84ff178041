"""Candidates of one-stage detectors, from the outputs of mmdet's heads.

The steps are those of mmdet 3.3.0's ``predict_by_feat``, for a whole batch and without branches
that depend on values. In mmdet a threshold removes boxes before the best ones are taken; here it
marks them afterwards, which selects the same boxes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet.models import dense_heads
from torch import Tensor

from kd.common.errors import UserError
from kd.export.selection import ScoredBoxes, largest

LARGEST_SET = 10**6
"""Candidates of a level where the detector sets no number."""


class _Level(NamedTuple):
    """Outputs of a head on one level; K boxes, C classes."""

    scores: Tensor
    """``(B, K, C)``"""
    boxes: Tensor
    """``(B, K, D)``: what the head predicts of a box."""
    factors: Tensor | None
    """``(B, K)``: centerness or IoU, 0 to 1."""
    priors: Tensor
    """``(K, 2)`` or ``(K, 4)``"""
    stride: float


def dense_candidates(head: Any, maps: Sequence[Tensor], limits: Tensor) -> ScoredBoxes:
    """Return the candidates of a head from the neck's maps.

    ``limits`` (4,): width, height, width, height of the images, to which boxes are clipped.
    UserError for a head whose predictions are not known here.
    """
    if isinstance(head, dense_heads.YOLOXHead):
        return _yolox(head, maps)
    if isinstance(head, dense_heads.YOLOV3Head):
        return _yolov3(head, maps)
    if not isinstance(head, SUPPORTED_HEADS):
        raise UserError(
            f"no exported form for the head {type(head).__name__}; `--forms mmdet` exports it"
        )
    levels = [_level_candidates(head, level, limits) for level in _levels(head, maps)]
    return all_levels(levels)


SUPPORTED_HEADS = (
    dense_heads.FCOSHead,
    dense_heads.ATSSHead,
    dense_heads.GFLHead,
    dense_heads.DDODHead,
    dense_heads.RepPointsHead,
    dense_heads.RetinaHead,
    dense_heads.SSDHead,
)


def all_levels(levels: Sequence[ScoredBoxes]) -> ScoredBoxes:
    """Return the candidates of all levels together."""
    return ScoredBoxes(*(torch.cat(column, dim=1) for column in zip(*levels, strict=True)))


def rows(maps: Tensor, width: int) -> Tensor:
    """Return maps (B, A * width, H, W) as rows (B, H * W * A, width)."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, width)


def clipped(boxes: Tensor, limits: Tensor) -> Tensor:
    """Return boxes (B, K, 4) within 0 and ``limits`` (4,)."""
    return torch.minimum(boxes.clamp(min=0), limits)


def large_enough(boxes: Tensor, smallest: float) -> Tensor:
    """Return True (B, K) for boxes whose width and height exceed ``smallest``."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return (sides > smallest).all(dim=-1)


def decode(coder: Any, priors: Tensor, predicted: Tensor) -> Tensor:
    """Return boxes (B, K, 4) that mmdet's coder decodes from priors and predictions (B, K, D)."""
    flat = coder.decode(priors.flatten(0, 1), predicted.flatten(0, 1))
    return flat.reshape(priors.shape[0], -1, 4)


def take(values: Tensor, index: Tensor) -> Tensor:
    """Return the rows (B, k, D) at the indices (B, k) of values (B, K, D)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _levels(head: Any, maps: Sequence[Tensor]) -> list[_Level]:
    class_maps, box_maps, *factor_maps = head(maps)
    sizes = [level.shape[-2:] for level in class_maps]
    priors = head.prior_generator.grid_priors(sizes, dtype=torch.float32, device=maps[0].device)
    factors = factor_maps[0] if factor_maps else [None] * len(class_maps)
    strides = [_stride(stride) for stride in head.prior_generator.strides]
    return [
        _Level(
            _scores(head, rows(classes, head.cls_out_channels)),
            rows(boxes, _width(head)),
            None if factor is None else rows(factor, 1)[..., 0].sigmoid(),
            prior,
            stride,
        )
        for classes, boxes, factor, prior, stride in zip(
            class_maps, box_maps, factors, priors, strides, strict=True
        )
    ]


def _stride(stride: Any) -> float:
    return stride[0] if isinstance(stride, tuple | list) else stride


def _scores(head: Any, logits: Tensor) -> Tensor:
    if isinstance(head, dense_heads.TOODHead):  # its forward applies the sigmoid
        return logits
    return logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[..., :-1]


def _width(head: Any) -> int:
    return 4 * (head.reg_max + 1) if isinstance(head, dense_heads.GFLHead) else 4


def _level_candidates(head: Any, level: _Level, limits: Tensor) -> ScoredBoxes:
    cfg = head.test_cfg
    scores, labels, index = _best_pairs(level.scores, cfg.get("nms_pre", LARGEST_SET))
    priors = take(level.priors[None].expand(scores.shape[0], -1, -1), index)
    boxes = _decoded(head, priors, take(level.boxes, index), level.stride)
    if not isinstance(head, dense_heads.TOODHead):  # mmdet clips all boxes but TOOD's
        boxes = clipped(boxes, limits)
    valid = scores > cfg.get("score_thr", 0)
    if cfg.get("min_bbox_size", -1) >= 0:
        valid = valid & large_enough(boxes, cfg["min_bbox_size"])
    if level.factors is not None:
        scores = scores * level.factors.gather(1, index)
    return ScoredBoxes(boxes, torch.where(valid, scores, torch.full_like(scores, -1)), labels)


def _best_pairs(scores: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores, classes and box indices (B, k) of the best pairs of scores (B, K, C)."""
    classes = scores.shape[-1]
    values, pairs = largest(scores.flatten(1), number)
    return values, pairs % classes, torch.div(pairs, classes, rounding_mode="floor")


def _decoded(head: Any, priors: Tensor, predicted: Tensor, stride: float) -> Tensor:
    if isinstance(head, dense_heads.TOODHead):
        return predicted * stride
    if isinstance(head, dense_heads.RepPointsHead):
        return predicted * stride + torch.cat([priors[..., :2], priors[..., :2]], dim=-1)
    if isinstance(head, dense_heads.GFLHead):
        distances = head.integral(predicted.flatten(0, 1)).reshape(predicted.shape[0], -1, 4)
        centers = (priors[..., :2] + priors[..., 2:]) / 2
        return decode(head.bbox_coder, centers, distances * stride)
    return decode(head.bbox_coder, priors, predicted)


def _yolox(head: Any, maps: Sequence[Tensor]) -> ScoredBoxes:
    """Return one candidate per point: its best class, weighted by objectness."""
    class_maps, box_maps, object_maps = head(maps)
    sizes = [level.shape[-2:] for level in class_maps]
    priors = torch.cat(
        head.prior_generator.grid_priors(
            sizes, dtype=torch.float32, device=maps[0].device, with_stride=True
        )
    )
    classes = torch.cat([rows(level, head.cls_out_channels) for level in class_maps], 1).sigmoid()
    objects = torch.cat([rows(level, 1) for level in object_maps], 1).sigmoid()[..., 0]
    boxes = head._bbox_decode(priors, torch.cat([rows(level, 4) for level in box_maps], 1))
    scores, labels = classes.max(-1)
    scores = scores * objects
    valid = scores >= head.test_cfg["score_thr"]
    return ScoredBoxes(boxes, torch.where(valid, scores, torch.full_like(scores, -1)), labels)


def _yolov3(head: Any, maps: Sequence[Tensor]) -> ScoredBoxes:
    """Return the best pairs of box and class over all levels, weighted by objectness."""
    cfg = head.test_cfg
    (predicted,) = head(maps)
    sizes = [level.shape[-2:] for level in predicted]
    priors = head.prior_generator.grid_priors(sizes, device=maps[0].device)
    levels = [rows(level, head.num_attrib) for level in predicted]
    boxes = [
        head.bbox_coder.decode(
            prior, torch.cat([level[..., :2].sigmoid(), level[..., 2:4]], -1), stride
        )
        for prior, level, stride in zip(priors, levels, head.featmap_strides, strict=True)
    ]
    logits = torch.cat(levels, dim=1)
    objects, classes = logits[..., 4].sigmoid(), logits[..., 5:].sigmoid()
    is_object = objects >= cfg.get("conf_thr", -1)
    classes = torch.where(is_object[..., None], classes, torch.zeros_like(classes))
    scores, labels, index = _best_pairs(classes, cfg.get("nms_pre", LARGEST_SET))
    best_boxes = take(torch.cat(boxes, dim=1), index)
    valid = scores > cfg.get("score_thr", 0)
    if cfg.get("min_bbox_size", -1) >= 0:
        valid = valid & large_enough(best_boxes, cfg["min_bbox_size"])
    scores = scores * objects.gather(1, index)
    return ScoredBoxes(best_boxes, torch.where(valid, scores, torch.full_like(scores, -1)), labels)
