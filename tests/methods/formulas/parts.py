"""Parts that several formulas share: divergences, masks, levels of boxes."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tests.methods.formulas.hooked import Step
from tests.support import plain_forms


def sigmoid_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the Bernoulli divergence of logits, element by element."""
    p, q = teacher.double().sigmoid(), student.double().sigmoid()
    return p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())


def softmax_kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL (R,) of logits (R, C)."""
    p, q = ((logits.double() / temperature).softmax(1) for logits in (teacher, student))
    return temperature**2 * (p * (p.log() - q.log())).sum(1)


def attention(maps: Tensor, places: tuple[int, ...], temperature: float) -> Tensor:
    """Return the softmax (B, n) over places of the mean magnitude over the other dimensions."""
    return (maps.abs().mean(places).flatten(1) / temperature).softmax(1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of values over a mask of the same shape, 0 if it is empty."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def objects(step: Step) -> Iterator[tuple[int, int, Tensor, int]]:
    """Yield each object: image, index in the image, box (4,) and class."""
    for image, (boxes, labels) in enumerate(zip(step.boxes, step.labels, strict=True)):
        for index, (box, label) in enumerate(zip(boxes, labels.tolist(), strict=True)):
            yield image, index, box, label


def priors_of(step: Step, image: int, index: int) -> Tensor:
    """Return the anchors that belong to an object."""
    return (step.assignment[image] == index).nonzero().flatten()


def decoded(step: Step, codes: Tensor, priors: Tensor) -> Tensor:
    return step.student.model.bbox_head.bbox_coder.decode(step.anchors[priors], codes)


def level_of(box: Tensor, sides: list[float], added: float) -> int:
    """Return the number of thresholds that the box's side reaches, 0 for the finest level."""
    width, height = (box[2:] - box[:2] + added).tolist()
    return sum(math.sqrt(width * height) * (1 + 1e-6) >= side for side in sides)


def sides_of(method: Any, step: Step, finest: float) -> list[float]:
    """Return the sides of a square at which the second level begins, the third, and so on."""
    setting = getattr(method, "level_sides", None)
    doubled = [finest * 2.0**rank for rank in range(1, len(step.strides))]
    return list(setting) if isinstance(setting, (tuple, list)) else doubled


def level_masks(
    step: Step, method: Any, fill: Callable[[int, int], Tensor] = plain_forms.ones
) -> list[Tensor]:
    """Draw each box into the level that its size belongs to; return (B, H, W) by level."""
    masks = [torch.zeros(len(step.boxes), *size) for size in step.sizes]
    sides = sides_of(method, step, 56)
    for image, _, box, _ in objects(step):
        rank = level_of(box, sides, added=1)
        plain_forms.draw(masks[rank][image], box.tolist(), step.strides[rank], fill)
    return masks
