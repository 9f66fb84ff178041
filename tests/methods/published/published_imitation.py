"""Imitation losses and soft labels on the inputs of golden data.

Maps of all levels lie one after another in ``student`` and ``teacher``, (B, C, cells); ``weight``
and ``bias`` are those of a convolution per level; ``boxes<image>`` are objects, xyxy in pixels.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kd.methods.features.tadf import TaskAdaptive, binary_entropy, box_distance, gaussian
from kd.methods.ops.masks import weighted_masks
from kd.observers import Batch, Candidates, Progress
from kd.training.image_groups import grouped_losses
from tests.methods.published.golden_data import Port
from tests.methods.published.preset_losses import preset_method, summed
from tests.methods.scenes import make_batch

Inputs = dict[str, Tensor]
NECK = (4, 8, 16, 32, 64)
"""Strides of the neck in all published code with the threshold of 56 pixels."""
LATE = 10_000
"""A step after any warm-up."""


class View:
    """Observation of neck and stages, of which ``subset`` returns some images."""

    def __init__(self, strides: tuple[int, ...], maps: list[Tensor], **more: Any) -> None:
        self.strides, self.neck, self.stages = list(strides), maps, maps
        self.more = more
        vars(self).update(more)

    def subset(self, images: slice) -> "View":
        more = dict(self.more)
        for name in ("assignment", "proposals", "stages"):
            if name in more:
                value = more[name]
                by_level = name == "stages"
                more[name] = [level[images] for level in value] if by_level else value[images]
        return View(tuple(self.strides), [level[images] for level in self.neck], **more)


def levels(packed: Tensor, inputs: Inputs, strides: tuple[int, ...]) -> list[Tensor]:
    """Return maps (B, C, H, W) by level."""
    height, width = inputs["image_size"].tolist()
    sizes = [(-(-height // stride), -(-width // stride)) for stride in strides]
    parts = packed.split([rows * columns for rows, columns in sizes], 2)
    return [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


class Convolution(nn.Module):
    """Adaptation layer with fixed weights."""

    def __init__(self, weight: Tensor, bias: Tensor, relu: bool = False) -> None:
        super().__init__()
        self.tensors, self.relu = (weight, bias), relu

    def forward(self, maps: Tensor) -> Tensor:
        weight, bias = self.tensors
        adapted = nn.functional.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2)
        return adapted.relu() if self.relu else adapted


def layers(inputs: Inputs, name: str = "level", prefix: str = "", relu: bool = False) -> Any:
    """Return the adaptation layers by the names that methods use."""
    if f"{prefix}weight" not in inputs:
        return {}
    pairs = zip(inputs[f"{prefix}weight"], inputs[f"{prefix}bias"], strict=True)
    return {f"{name}{level}": Convolution(*pair, relu) for level, pair in enumerate(pairs)}


def batch_of(inputs: Inputs, images: int, step: int = LATE) -> Batch:
    """Return a batch of blank images with the objects of a case."""
    sides = inputs["image_size"].tolist() if "image_size" in inputs else [1, 1]
    boxes = [inputs.get(f"boxes{image}", torch.zeros(0, 4)) for image in range(images)]
    labels = [torch.zeros(len(rows), dtype=torch.long) for rows in boxes]
    blank = torch.zeros(images, 3, *sides)
    return make_batch(blank, boxes, labels, progress=Progress(step=step))


def neck(
    preset: str, inputs: Inputs, strides: tuple[int, ...] = NECK, relu: bool = False
) -> Inputs:
    """Return the terms of a method that imitates neck maps."""
    priors, assigned = inputs.get("priors"), inputs.get("assignment")
    student, teacher = (levels(inputs[name], inputs, strides) for name in ("student", "teacher"))
    more: dict[str, Any] = {}
    if priors is not None:
        anchors = len(priors) // inputs["student"].shape[2]
        counts = [anchors * level.shape[-2] * level.shape[-1] for level in student]
        more["level_priors"] = list(priors.split(counts))
    if assigned is not None:
        more["assignment"] = assigned
    batch = batch_of(inputs, len(inputs["student"]))
    views = View(strides, student, **more), View(strides, teacher)
    return summed(grouped_losses(preset_method(preset), *views, batch, layers(inputs, relu=relu)))


def backbone(inputs: Inputs) -> Inputs:
    """Return DeFeat's terms of the last two stages."""
    strides = (16, 32)
    maps = (levels(inputs[name], inputs, strides) for name in ("student", "teacher"))
    student, teacher = (View(strides, neck_maps) for neck_maps in maps)
    stages = layers(inputs, "stage", relu=True)
    method = preset_method("defeat_backbone", object_weight=0, background_weight=0)
    batch = batch_of(inputs, len(inputs["student"]))
    return summed(grouped_losses(method, student, teacher, batch, stages))


def defeat_up(inputs: Inputs) -> Inputs:
    """Return the terms of neck and backbone at a step of the warm-up."""
    stages = {f"stage_{name}" for name in ("student", "teacher")}
    by_stage = {name: levels(inputs[name], inputs, (8, 16, 32)) for name in stages}
    student, teacher = (
        View(NECK, levels(inputs[name], inputs, NECK), stages=by_stage[f"stage_{name}"])
        for name in ("student", "teacher")
    )
    adapters = layers(inputs) | layers(inputs, "stage", "stage_", relu=True)
    batch = batch_of(inputs, len(inputs["student"]), int(inputs["step"]))
    return summed(grouped_losses(preset_method("defeat_up"), student, teacher, batch, adapters))


def fitnets_up(inputs: Inputs) -> Inputs:
    """Return the term of whole maps, of sizes that belong to no image."""
    sizes = inputs["sizes"].tolist()
    cells = [rows * columns for rows, columns in sizes]

    def view(name: str) -> View:
        parts = zip(inputs[name].split(cells, 2), sizes, strict=True)
        return View(NECK[: len(sizes)], [part.unflatten(2, size) for part, size in parts])

    batch = batch_of(inputs, len(inputs["student"]))
    method = preset_method("fitnets_up")
    return summed(grouped_losses(method, view("student"), view("teacher"), batch, {}))


class Pooled(View):
    """Proposals, and the features pooled from them: one row of ``features`` for each RoI."""

    def __init__(self, features: Tensor, rois: Tensor, images: slice, count: int) -> None:
        first, stop, _ = images.indices(count)
        rows = (rois[:, 0] >= first) & (rois[:, 0] < stop)
        self.features, self.rois, self.count = features, rois, count
        self.region_maps = [features[rows]]
        boxes = rois[rows]
        self.proposals = [boxes[boxes[:, 0] == image, 1:] for image in range(first, stop)]

    def subset(self, images: slice) -> "Pooled":
        return Pooled(self.features, self.rois, images, self.count)

    def pool(self, maps: list[Tensor], rois: Tensor) -> Tensor:
        torch.testing.assert_close(rois[:, 1:], torch.cat(self.proposals))
        return maps[0]


def mimic_up(inputs: Inputs) -> Inputs:
    """Return the term of pooled features."""
    import kd.runtime  # noqa: F401

    images = int(inputs["images"])
    student, teacher = (
        Pooled(inputs[name], inputs["rois"], slice(None), images) for name in ("student", "teacher")
    )
    batch = batch_of(inputs, images)
    return grouped_losses(preset_method("mimic_up", "faster_rcnn"), student, teacher, batch, {})


class Regions(View):
    """Class outputs of RoIs; a RoI with an object is one of its class."""

    candidate_softmax = True

    def __init__(self, logits: Tensor, labels: Tensor) -> None:
        rows, background = torch.arange(len(labels)), logits.shape[1] - 1
        instance = torch.where(labels < background, rows, -1)
        self.logits = logits
        self.candidates = Candidates(
            torch.zeros_like(rows), rows, instance, torch.zeros(len(rows), 5)
        )
        self.proposals = [torch.zeros(len(rows), 4)]

    def sample(self, proposals: list[Tensor]) -> Candidates:
        return self.candidates

    def candidate_logits(self, candidates: Candidates) -> Tensor:
        return self.logits[candidates.index]


def regions(inputs: Inputs) -> tuple[Regions, Regions, Batch]:
    """Return student, teacher and a batch that has an object of each RoI's class."""
    student, teacher = (Regions(inputs[name], inputs["labels"]) for name in ("student", "teacher"))
    labels = inputs["labels"]
    boxes = torch.zeros(len(labels), 4)
    return student, teacher, make_batch(torch.zeros(1, 3, 1, 1), [boxes], [labels])


def defeat_head(preset: str, inputs: Inputs) -> Inputs:
    """Return DeFeat's terms of class outputs, at one temperature for both regions."""
    heat = inputs["temperature"].item()
    method = preset_method(
        preset, "faster_rcnn", positive_temperature=heat, negative_temperature=heat
    )
    return grouped_losses(method, *regions(inputs), {})


def soft_labels(inputs: Inputs) -> Inputs:
    """Return the term of RoIs selected by the case's form."""
    boxes = ("positive", "negative", "all", "teacher_correct")[int(inputs["form"])]
    heat = inputs["temperature"].item()
    method = preset_method("soft_labels", "faster_rcnn", weight=2, temperature=heat, boxes=boxes)
    return grouped_losses(method, *regions(inputs), {})


class Dense(View):
    """Class outputs of priors, one at each cell."""

    candidate_softmax = False

    def __init__(self, logits: Tensor, assignment: Tensor, level_priors: list[Tensor]) -> None:
        self.logits, self.assignment, self.level_priors = logits, assignment, level_priors
        images, priors = assignment.shape
        image = torch.arange(images).repeat_interleave(priors)
        index = torch.arange(priors).repeat(images)
        self.candidates = Candidates(image, index, assignment.flatten())

    def subset(self, images: slice) -> "Dense":
        return Dense(self.logits[images], self.assignment[images], self.level_priors)

    def candidate_logits(self, candidates: Candidates) -> Tensor:
        return self.logits[candidates.image, candidates.index]


def soft_labels_ld(inputs: Inputs) -> Inputs:
    """Return the term of positive priors; maps are class outputs."""
    maps = levels(inputs["student"], inputs, (8, 16, 32, 64, 128))
    counts = [level.shape[-2] * level.shape[-1] for level in maps]
    student, teacher = (
        Dense(inputs[name].mT, inputs["assignment"], list(inputs["priors"].split(counts)))
        for name in ("student", "teacher")
    )
    batch = batch_of(inputs, len(inputs["student"]))
    return grouped_losses(preset_method("soft_labels_ld", "gfl"), student, teacher, batch, {})


def tadf(inputs: Inputs) -> Inputs:
    """Return TADF's parts that have published helpers."""
    method = preset_method(
        "tadf", "faster_rcnn", regression="nearest", regression_weight=0, decay=False
    )
    assert isinstance(method, TaskAdaptive)
    positive = inputs["labels"] < inputs["student"].shape[1] - 1
    entropy = binary_entropy(inputs["teacher"][positive], inputs["student"][positive])
    codes = (inputs[f"{name}_codes"] for name in ("student", "teacher", "target"))
    distances = box_distance(*codes, method.regression)
    height, width = inputs["image_size"].tolist()
    sizes = [(-(-height // stride), -(-width // stride)) for stride in NECK]
    batch = batch_of(inputs, sum(name.startswith("boxes") for name in inputs))
    weight = partial(gaussian, sigma_squared=method.sigma_squared)
    masks = weighted_masks(batch, NECK, sizes, weight)
    return {
        "loss_tadf_cls": method.classification_weight * entropy.sum() / max(len(entropy), 1),
        "nearest": distances.sum() / len(distances),
        **{f"mask{level}": mask for level, mask in enumerate(masks)},
    }


LD_STRIDES = (8, 16, 32, 64, 128)
PORTS: dict[str, Port] = {
    "defeat": partial(neck, "defeat"),
    "defeat_voc": partial(neck, "defeat_voc"),
    "defeat_all": partial(neck, "defeat_all"),
    "defeat_backbone": backbone,
    "defeat_head": partial(defeat_head, "defeat_head"),
    "defeat_head_all": partial(defeat_head, "defeat_head_all"),
    "defeat_up": defeat_up,
    "fgfi": partial(neck, "fgfi", strides=(16,), relu=True),
    "fgfi_defeat": partial(neck, "fgfi_defeat"),
    "fgfi_ld": partial(neck, "fgfi_ld", strides=LD_STRIDES),
    "fitnets_defeat": partial(neck, "fitnets_defeat"),
    "fitnets_object_ld": partial(neck, "fitnets_object_ld", strides=LD_STRIDES),
    "fitnets_up": fitnets_up,
    "mimic_up": mimic_up,
    "soft_labels": soft_labels,
    "soft_labels_ld": soft_labels_ld,
    "tadf": tadf,
}
