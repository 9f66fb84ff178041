"""Candidates of Faster R-CNN and Cascade R-CNN, from mmdet's networks.

The steps are those of mmdet 3.3.0, for a whole batch. Every image has the same number of proposals;
missing ones have no area and no score.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor

from kd.export.dense import all_levels, clipped, decode, large_enough, rows, take
from kd.export.selection import ScoredBoxes, best, largest


def region_candidates(detector: Any, maps: Sequence[Tensor], limits: Tensor) -> ScoredBoxes:
    """Return the candidates of a two-stage detector from the neck's maps.

    ``limits`` (4,): width, height, width, height of the images.
    """
    cfg = detector.roi_head.test_cfg
    proposals, is_proposal = _proposals(detector.rpn_head, maps, limits)
    boxes, scores = _classified(detector.roi_head, maps, proposals, limits)
    valid = (scores > cfg["score_thr"]) & is_proposal[..., None]
    scores = torch.where(valid, scores, torch.full_like(scores, -1))
    labels = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
    return ScoredBoxes(boxes.flatten(1, 2), scores.flatten(1), labels.flatten(1))


def _proposals(head: Any, maps: Sequence[Tensor], limits: Tensor) -> tuple[Tensor, Tensor]:
    """Return proposals (B, P, 4) and True for those that are not padding (B, P)."""
    cfg = head.test_cfg
    logits, deltas = head(maps)
    sizes = [level.shape[-2:] for level in logits]
    priors = head.prior_generator.grid_priors(sizes, dtype=torch.float32, device=maps[0].device)
    levels = []
    for number, (classes, boxes, prior) in enumerate(zip(logits, deltas, priors, strict=True)):
        outputs = rows(classes, head.cls_out_channels)
        probabilities = outputs.sigmoid() if head.use_sigmoid_cls else outputs.softmax(-1)
        scores, index = largest(probabilities[..., 0], cfg["nms_pre"])
        anchors = take(prior[None].expand(scores.shape[0], -1, -1), index)
        decoded = clipped(decode(head.bbox_coder, anchors, take(rows(boxes, 4), index)), limits)
        if cfg.get("min_bbox_size", -1) >= 0:
            valid = large_enough(decoded, cfg["min_bbox_size"])
            scores = torch.where(valid, scores, torch.full_like(scores, -1))
        levels.append(ScoredBoxes(decoded, scores, torch.full_like(index, number)))
    regions = best(all_levels(levels), cfg["nms"]["iou_threshold"], cfg["max_per_img"])
    return regions.boxes, regions.scores > 0


def _classified(
    roi_head: Any, maps: Sequence[Tensor], proposals: Tensor, limits: Tensor
) -> tuple[Tensor, Tensor]:
    """Return boxes (B, P, C, 4) and scores (B, P, C) of the proposals (B, P, 4)."""
    images, number = proposals.shape[:2]
    is_cascade = isinstance(roi_head.bbox_head, torch.nn.ModuleList)
    heads = list(roi_head.bbox_head) if is_cascade else [roi_head.bbox_head]
    extractors = list(roi_head.bbox_roi_extractor) if is_cascade else [roi_head.bbox_roi_extractor]
    logits: list[Tensor] = []
    deltas = proposals
    for stage, (head, extractor) in enumerate(zip(heads, extractors, strict=True)):
        if stage:
            proposals = _refined(heads[stage - 1], proposals, logits[-1], deltas, limits)
        classes, deltas = head(_pooled(extractor, maps[: extractor.num_inputs], proposals))
        logits.append(classes.reshape(images, number, -1))
        deltas = deltas.reshape(images, number, -1, 4)
    scores = torch.stack(logits).mean(0).softmax(-1)[..., :-1]
    boxes = _regressed(heads[-1], proposals, deltas, limits)
    return boxes.expand(-1, -1, scores.shape[-1], -1), scores


def _refined(
    head: Any, proposals: Tensor, logits: Tensor, deltas: Tensor, limits: Tensor
) -> Tensor:
    """Return the proposals (B, P, 4) that a stage of a cascade passes to the next one."""
    boxes = _regressed(head, proposals, deltas, limits)
    if head.reg_class_agnostic:
        return boxes[:, :, 0]
    label = logits[..., :-1].argmax(-1)[..., None, None].expand(-1, -1, 1, 4)
    return boxes.gather(2, label)[:, :, 0]


def _regressed(head: Any, proposals: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Return boxes (B, P, C, 4) from proposals (B, P, 4) and deltas (B, P, C, 4)."""
    priors = proposals[:, :, None].expand_as(deltas).flatten(1, 2)
    boxes = clipped(decode(head.bbox_coder, priors, deltas.flatten(1, 2)), limits)
    return boxes.reshape(deltas.shape)


def _pooled(extractor: Any, maps: Sequence[Tensor], proposals: Tensor) -> Tensor:
    """Return the maps (B * P, C, h, w) of proposals (B, P, 4), each from the level of its size."""
    boxes = proposals.flatten(0, 1)
    image = torch.arange(proposals.shape[0], device=boxes.device)[:, None, None]
    image = image.expand(-1, proposals.shape[1], 1).flatten(0, 1).to(boxes.dtype)
    rois = torch.cat([image, boxes], dim=1)
    level_of = extractor.map_roi_levels(rois, len(maps))
    pooled, places = [], []
    for number, (level, layer) in enumerate(zip(maps, extractor.roi_layers, strict=True)):
        place = (level_of == number).nonzero()[:, 0]
        pooled.append(
            torchvision.ops.roi_align(
                level,
                rois[place],
                layer.output_size,
                layer.spatial_scale,
                layer.sampling_ratio,
                layer.aligned,
            )
        )
        places.append(place)
    order = torch.cat(places).argsort()
    return torch.cat(pooled)[order]
