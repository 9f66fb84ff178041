"""Terms of the methods that compare whole neck maps, implemented from the papers.

The formulas use neither ``kd.observers`` nor ``kd.methods``.
"""

import math
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.methods.formulas.hooked import Step
from tests.methods.formulas.parts import attention, objects, softmax_kl

ALL_BUT_CHANNELS = (0, 2, 3)


def neck_pairs(step: Step, name: str, layer: str, levels: int | None) -> Iterator[list[Tensor]]:
    """Yield the adapted student's map and the teacher's, (B, C, H, W) each, of the finest levels.

    A level's adapter has the name ``layer`` and its number; a level may have none.
    """
    maps = zip(step.student.neck, step.teacher.neck, strict=True)
    for level, (student, teacher) in enumerate(list(maps)[:levels]):
        adapters = step.adapters[name]
        key = f"{layer}{level}"
        yield [adapters[key](student) if key in adapters else student, teacher]


def pearson_correlation(step: Step, method: Any) -> dict[str, Any]:
    """Return PKD's term: MSE / 2 of maps whose channels are standardized over images and cells."""
    total = 0.0
    for pair in neck_pairs(step, "pkd", "level", method.levels):
        standardized = []
        for maps in pair:
            mean = maps.double().mean(ALL_BUT_CHANNELS, keepdim=True)
            deviation = maps.double().std(ALL_BUT_CHANNELS, keepdim=True)
            standardized.append((maps - mean) / (deviation + 1e-6))
        total += float(F.mse_loss(*standardized)) / 2
    return {"loss_pkd": method.weight * total}


def channel_wise(step: Step, method: Any) -> dict[str, Any]:
    """Return CWD's term: KL of softmaxes over the cells of each channel of each image."""
    if method.maps == "class":
        pairs = zip(step.student.class_maps, step.teacher.class_maps, strict=True)
        compared = [list(pair) for pair in pairs]
    else:
        compared = list(neck_pairs(step, "cwd", "level", None))
    total = 0.0
    for pair in compared:
        if method.normalize:
            pair = [F.batch_norm(maps, None, None, training=True) for maps in pair]
        student, teacher = (maps.flatten(2).flatten(0, 1) for maps in pair)
        total += float(softmax_kl(teacher, student, method.temperature).mean())
    return {"loss_cwd": method.weight * total}


def masks(step: Step, share: float) -> list[Tensor]:
    """Return MGD's masks by level (B, H, W), 0 in a random share of an image's cells.

    The seed of an image's draws is the checksum of the step's seed and of the image's id.
    """
    cells = [height * width for height, width in step.sizes]
    levels: list[list[Tensor]] = [[] for _ in cells]
    for sample in step.samples:
        generator = torch.Generator()
        generator.manual_seed(crc32(f"{step.seed} {sample.img_id}".encode()))
        draws = torch.rand(sum(cells), generator=generator).split(cells)
        for level, size, draw in zip(levels, step.sizes, draws, strict=True):
            level.append((draw >= share).float().reshape(size))
    return [torch.stack(level) for level in levels]


def masked_generation(step: Step, method: Any) -> dict[str, Any]:
    """Return MGD's term: squared differences of generated maps, averaged over images."""
    total = 0.0
    pairs = list(neck_pairs(step, "mgd", "align", method.levels))
    for level, (student, teacher) in enumerate(pairs):
        masked = student * masks(step, method.masked_share)[level][:, None]
        first, _, last = step.adapters["mgd"][f"generator{level}"]
        hidden = F.conv2d(masked, first.weight, first.bias, padding=1).relu()
        generated = F.conv2d(hidden, last.weight, last.bias, padding=1)
        total += float((generated - teacher).double().square().sum()) / len(teacher)
    return {"loss_mgd": method.weight * total}


def feature_richness(step: Step, method: Any) -> dict[str, Any]:
    """Return FRS's terms, weighted by the teacher's best score of each cell, in the warm-up."""
    rate = min((step.record["step"] - 1) / method.warmup_steps, 1)
    neck, classes = 0.0, 0.0
    maps = zip(step.student.class_maps, step.teacher.class_maps, strict=True)
    pairs = neck_pairs(step, "frs", "level", None)
    for (student, teacher), (logits, teacher_logits) in zip(pairs, maps, strict=True):
        target = teacher_logits.sigmoid()
        scores = target.amax(1)
        distance = (student - teacher).square().sum(1)
        neck += float((scores * distance).sum() / scores.sum())
        if method.class_weight:
            p = logits.double().sigmoid()
            entropy = -(target * p.log() + (1 - target) * (1 - p).log()).sum(1)
            classes += float((scores * entropy).sum() / scores.sum())
    terms = {"loss_frs_neck": rate * method.feature_weight * neck}
    if method.class_weight:
        terms["loss_frs_cls"] = rate * method.class_weight * classes
    return terms


def focal_masks(step: Step, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return FGD's scale masks of objects and of the background (B, H, W), box by box."""
    foreground = torch.zeros(len(step.boxes), height, width)
    input_height, input_width = step.inputs.shape[-2:]
    for image, _, box, _ in objects(step):
        x = (box[0::2] / input_width * width).tolist()
        y = (box[1::2] / input_height * height).tolist()
        left, right = math.floor(x[0]), math.ceil(x[1]) + 1
        top, bottom = math.floor(y[0]), math.ceil(y[1]) + 1
        part = foreground[image, top:bottom, left:right]
        part.clamp_(min=1 / ((bottom - top) * (right - left)))
    background = (foreground == 0).float()
    for image_mask in background:
        image_mask /= max(float(image_mask.sum()), 1)
    return foreground, background


def context_block(block: Any, maps: Tensor) -> Tensor:
    """Return maps plus the transformed context, the average over cells weighted by a softmax."""
    affinity = torch.einsum("c,bchw->bhw", block.attention.weight.flatten(), maps)
    context = torch.einsum("bn,bcn->bc", affinity.flatten(1).softmax(1), maps.flatten(2))
    first, norm, _, last = block.transform
    hidden = F.linear(context, first.weight.flatten(1), first.bias)
    scale, shift = norm.weight.flatten(), norm.bias.flatten()
    hidden = F.layer_norm(hidden, hidden.shape[1:], scale, shift).relu()
    return maps + F.linear(hidden, last.weight.flatten(1), last.bias)[..., None, None]


def focal_and_global(step: Step, method: Any) -> dict[str, Any]:
    """Return FGD's terms (equations 1 to 12), averaged over images and summed over levels."""
    sums = dict.fromkeys(("foreground", "background", "attention", "global"), 0.0)
    layers = step.adapters["fgd"]
    for level, pair in enumerate(list(neck_pairs(step, "fgd", "align", method.levels))):
        channels, height, width = pair[1].shape[1:]
        cells = [attention(maps, (1,), method.temperature) * height * width for maps in pair]
        channel = [attention(maps, (2, 3), method.temperature) * channels for maps in pair]
        distance = (pair[0] - pair[1]).square() * channel[1][..., None, None]
        distance = distance * cells[1].view(-1, 1, height, width)
        regions = zip(("foreground", "background"), focal_masks(step, height, width), strict=True)
        for name, mask in regions:
            sums[name] += float((distance * mask[:, None]).sum())
        sums["attention"] += sum(float((s - t).abs().sum()) for s, t in (cells, channel))
        student, teacher = (
            context_block(layers[f"{side}{level}"], maps)
            for side, maps in zip(("student", "teacher"), pair, strict=True)
        )
        sums["global"] += float((student - teacher).square().sum())
    images = len(step.boxes)
    return {
        f"loss_fgd_{name}": getattr(method, f"{name}_weight") * total / images
        for name, total in sums.items()
    }


FORMULAS = {
    "pkd": pearson_correlation,
    "cwd": channel_wise,
    "mgd": masked_generation,
    "frs": feature_richness,
    "fgd": focal_and_global,
}
