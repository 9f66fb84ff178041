"""Plain forms of computations that the library vectorizes: one box, image and pair at a time."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from kd.classifiers.teacher import ClassifierTeacher
from kd.methods.features.gid import POOLED_CELLS, SAMPLES_PER_CELL
from kd.methods.ops.pyramid import SECOND_LEVEL_STRIDES
from kd.methods.ops.spatial_transformer import affine
from kd.methods.predictions.dicod import Dicod, distance, object_crops
from kd.observers import Batch

# --- Masks ---------------------------------------------------------------------------------


def ones(height: int, width: int) -> Tensor:
    return torch.ones(height, width)


def gaussian(sigma_squared: float) -> Callable[[int, int], Tensor]:
    """Return TADF's mask of a box as a function of its height and width in cells."""

    def mask(height: int, width: int) -> Tensor:
        if height == width == 1:
            return torch.ones(1, 1)
        rows, columns = (
            torch.exp(-((torch.arange(cells) / (cells / 2) - 1) ** 2) / sigma_squared)
            for cells in (height, width)
        )
        return rows[:, None] * columns

    return mask


def object_masks(
    batch: Batch,
    strides: list[int],
    sizes: list[tuple[int, int]],
    fill: Callable[[int, int], Tensor] = ones,
) -> list[Tensor]:
    """Return masks (B, H, W) with each box drawn into its level."""
    finest_first = sorted(strides)
    masks = [torch.zeros(len(batch.samples), *size) for size in sizes]
    for image, boxes in enumerate(batch.gt_boxes):
        for box in boxes.tolist():
            side = math.sqrt((box[2] - box[0] + 1) * (box[3] - box[1] + 1))
            rank = math.floor(math.log2(side / 56 + 1e-6))
            stride = finest_first[min(max(rank, 0), len(strides) - 1)]
            draw(masks[strides.index(stride)][image], box, stride, fill)
    return masks


def object_mask(batch: Batch, stride: float, size: tuple[int, int]) -> Tensor:
    mask = torch.zeros(len(batch.samples), *size)
    for image, boxes in enumerate(batch.gt_boxes):
        for box in boxes.tolist():
            draw(mask[image], box, stride, ones)
    return mask


def draw(mask: Tensor, box: list[float], stride: float, fill: Callable[[int, int], Tensor]) -> None:
    height, width = mask.shape
    left, top, right, bottom = (int(side / stride) for side in box)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    right, bottom = min(right, width), min(bottom, height)
    if right <= left or bottom <= top:
        right, bottom = left + 1, top + 1
    part = mask[top:bottom, left:right]
    part.copy_(torch.maximum(part, fill(bottom - top, right - left)))


# --- GID -----------------------------------------------------------------------------------


def suppressed(boxes: Tensor, is_valid: Tensor, overlap: float, count: int) -> list[Tensor]:
    """Suppress all boxes (B, N, 4), best first, with torchvision, then select ``count``."""
    results = []
    for image_boxes, mask in zip(boxes, is_valid, strict=True):
        valid_boxes = image_boxes[mask]
        scores = torch.arange(len(valid_boxes), 0, -1).float()
        results.append(valid_boxes[ops.nms(valid_boxes, scores, overlap)[:count]])
    return results


def pool(maps: list[Tensor], strides: list[int], rois: Tensor) -> Tensor:
    """Pool the regions one by one."""
    finest_first = sorted(strides)
    pooled = [maps[0].new_zeros(0, maps[0].shape[1], POOLED_CELLS, POOLED_CELLS)]
    for roi in rois:
        side = math.sqrt((roi[3] - roi[1] + 1) * (roi[4] - roi[2] + 1))
        rank = math.floor(math.log2(side / (SECOND_LEVEL_STRIDES / 2 * min(strides)) + 1e-6))
        stride = finest_first[min(max(rank, 0), len(strides) - 1)]
        level = maps[strides.index(stride)]
        pooled.append(
            ops.roi_align(level, roi[None], POOLED_CELLS, 1 / stride, SAMPLES_PER_CELL, True)
        )
    return torch.cat(pooled)


def relative_distances(features: Tensor) -> Tensor:
    """Return the normalized distances of all pairs of (R, D)."""
    first, second = torch.triu_indices(len(features), len(features), 1)
    distances = (features[first] - features[second]).norm(dim=1)
    return distances / (distances.sum() / max(len(distances), 1)).clamp(min=1e-12)


# --- DICOD ---------------------------------------------------------------------------------


def crops(images: Tensor, image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop the boxes one by one."""
    height, width = images.shape[-2:]
    results = [images.new_zeros(0, images.shape[1], size, size)]
    for row, box in zip(image, boxes, strict=True):
        near = box[:2].clamp(min=0)
        far = box[2:].minimum(box.new_tensor([width, height]))
        theta = affine(torch.cat([near, far])[None], width, height)
        grid = F.affine_grid(theta, [1, 1, size, size], align_corners=False)
        results.append(F.grid_sample(images[row][None], grid, align_corners=False))
    return torch.cat(results)


class PlainClassifier:
    """Classifier teacher that applies the layers of its network's stem one after another."""

    def __init__(self, teacher: ClassifierTeacher) -> None:
        self.teacher, self.size = teacher, teacher.size
        self.normalized = teacher.normalized

    def logits(self, objects: Tensor) -> Tensor:
        return self.teacher.network(objects.contiguous())

    def stages(self, objects: Tensor, last: int) -> list[Tensor]:
        network, maps = self.teacher.network, objects.contiguous()
        stages = [network.maxpool(network.relu(network.bn1(network.conv1(maps))))]
        for number in range(1, last + 1):
            stages.append(getattr(network, f"layer{number}")(stages[-1]))
        return stages


def dicod_distances(term: Dicod, student: Any, teacher: Any, batch: Batch) -> list[Tensor]:
    """Return DICOD's summed distances in pixels and in stages, of all boxes in one graph."""
    positive = student.candidates.positive
    side = term.crop_size or teacher.size
    objects = object_crops(batch, side)
    candidates = crops(batch.inputs, positive.image, student.candidate_boxes(positive), side)
    pairs = zip(
        *(term._layers(images, teacher, batch) for images in (candidates, objects)), strict=True
    )
    sums = [distance(layer, target[positive.instance]).sum() for layer, target in pairs]
    return [sums[0], torch.stack(sums[1:]).sum()]


# --- Ranks ---------------------------------------------------------------------------------


def class_scores(model: Any, image: Tensor, prior: Tensor, label: Tensor) -> Tensor:
    """Return RM's scores from the probabilities of every prior and class."""
    return model.probabilities[image, prior, label]
