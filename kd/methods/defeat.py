"""DeFeat: objects and background distilled apart (Guo et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.adapters import adaptations, adapted, mean_over, squared_distance
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.masks import map_sizes, object_mask, object_masks
from kd.methods.ops.pyramid import LevelSides, sides_of
from kd.methods.ops.reduction import shared_count
from kd.methods.soft_labels import categorical_divergence

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Candidates, Channels
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")

BACKBONE_STRIDE = 4
"""Pixels per cell of the mask that is then resized to each backbone stage."""

Region = tuple[str, float, Sequence["Tensor | None"]]
"""A name, a weight, and the cells of each map that belong to it, (B, H, W) of 0 and 1, or all."""


class DeFeat(Method):
    """Imitation of neck, backbone and class outputs, each split into objects and the rest.

    The defaults are the decoupled neck of the paper's COCO tables, which every detector with a neck
    has: the author gave its weights for Faster R-CNN (issue 18 of ggjy/DeFeat.pytorch), those of
    RetinaNet are not known. A weight of 0 leaves a term out. The full method adds the backbone and,
    on Faster R-CNN, the class outputs; the weights of the backbone and the temperatures behind the
    tables are not published. The released code (commit c46a793d) trains the neck alone, with 3 and
    12 on VOC.

    Unlike that code, the RoIs' labels are those of the RoIs compared, background is the last
    class, and the background has a temperature of its own, as in the paper. Masks of cells are of
    object boxes, by level for the neck and of all boxes for the backbone.
    """

    title = "DeFeat"
    weights: ClassVar = {
        "loss_defeat_object": "object_weight",
        "loss_defeat_background": "background_weight",
        "loss_defeat_neck": "object_weight",
        "loss_defeat_positive": "positive_weight",
        "loss_defeat_negative": "negative_weight",
        "loss_defeat_rois": "positive_weight",
    }

    neck: Literal["decoupled", "whole"] = "decoupled"
    """Objects and background apart, or the whole map at once, by ``object_weight``."""
    object_weight: NonNegativeFloat = 4.0
    """The paper's alpha_obj, of the neck's cells on objects."""
    background_weight: NonNegativeFloat = 16.0
    """alpha_bg, of its other cells."""
    head: Literal["decoupled", "whole"] = "decoupled"
    """Positive and negative RoIs apart, or all at once, by the positives' settings."""
    positive_weight: NonNegativeFloat = 0.0
    """beta_obj, of class outputs of the second stage; the released code has 2, switched off."""
    negative_weight: NonNegativeFloat = 0.0
    """beta_bg."""
    positive_temperature: PositiveFloat = 1.0
    """T_obj."""
    negative_temperature: PositiveFloat = 1.0
    """T_bg."""
    rois: Literal["teacher", "student"] = "teacher"
    """Whose proposals are sampled; the code's default branch is the teacher's."""
    backbone: Literal["decoupled", "whole"] = "decoupled"
    """Objects and background apart, or whole maps by ``backbone_object_weight``
    (United-Perception)."""
    backbone_object_weight: NonNegativeFloat = 0.0
    backbone_background_weight: NonNegativeFloat = 0.0
    backbone_stages: PositiveInt = 2
    """How many stages, from the last: the author names stages 3 and 4 of a ResNet."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which all weights rise in proportion to the step, from 0 (United-Perception)."""
    level_sides: LevelSides = "scaled"
    """Sides of a square object, in pixels, at which the second level begins, the third, and so on.
    ``published``: 112 and its doubles, DeFeat's 56 for images of 800 px. ``scaled``: these by the
    image size, in whole octaves, which is ``published`` at the papers' scale; SSD's are those that
    its anchors state (``kd.methods.ops.pyramid``)."""

    @property
    def assigns_levels(self) -> bool:
        return self._neck and self.neck == "decoupled"

    @property
    def needs(self) -> Needs:
        read = {"neck"} if self._neck else set()
        read |= {"stages"} if self._backbone else set()
        read |= {"candidates", "rois"} if self._head else set()
        return Needs(both=frozenset(read))

    @property
    def _neck(self) -> bool:
        weights = self.object_weight, self.background_weight * (self.neck == "decoupled")
        return any(weights)

    @property
    def _head(self) -> bool:
        weights = self.positive_weight, self.negative_weight * (self.head == "decoupled")
        return any(weights)

    @property
    def _backbone(self) -> bool:
        background = self.backbone_background_weight * (self.backbone == "decoupled")
        return any((self.backbone_object_weight, background))

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a 3x3 convolution per neck level, and one with a ReLU per backbone stage."""
        neck = adaptations(student.neck, teacher.neck, "3x3") if self._neck else {}
        if not self._backbone:
            return neck
        narrow, wide = (each.stages[-self.backbone_stages :] for each in (student, teacher))
        stages = adaptations(narrow, wide, "3x3_relu").values()
        return neck | {f"stage{stage}": layer for stage, layer in enumerate(stages)}

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return the weighted parts that are on, those of maps by level.

        ``loss_defeat_object`` and ``_background`` of the neck (``_neck`` of whole maps),
        ``_positive`` and ``_negative`` of RoIs (``_rois`` of all), ``_stage_object`` and
        ``_stage_background`` of the backbone (``_stage`` of whole maps).
        """
        losses: Losses = {}
        if self._neck:
            maps = [adapted(adapters, level, each) for level, each in enumerate(student.neck)]
            losses |= imitation(maps, teacher.neck, self._neck_regions(student, batch))
        if self._backbone:
            stages, wanted = (each.stages[-self.backbone_stages :] for each in (student, teacher))
            maps = [
                adapters[f"stage{stage}"](full_precision(each)) for stage, each in enumerate(stages)
            ]
            losses |= imitation(maps, wanted, self._backbone_regions(stages, batch))
        if self._head:
            losses |= self._head_losses(student, teacher)
        rate = min(batch.progress.step / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        return {f"loss_defeat_{name}": _scaled(value, rate) for name, value in losses.items()}

    def _neck_regions(self, student: Any, batch: Batch) -> list[Region]:
        if self.neck == "whole":
            return [("neck", self.object_weight, [None] * len(student.neck))]
        objects = self._object_masks(student, batch)
        return [
            ("object", self.object_weight, objects),
            ("background", self.background_weight, [1 - mask for mask in objects]),
        ]

    def _object_masks(self, student: Any, batch: Batch) -> list[Tensor]:
        sizes = map_sizes(student.neck)
        return object_masks(batch, student.strides, sizes, sides=sides_of(self.level_sides))

    def _backbone_regions(self, stages: list[Tensor], batch: Batch) -> list[Region]:
        if self.backbone == "whole":
            return [("stage", self.backbone_object_weight, [None] * len(stages))]
        mask = backbone_mask(batch)[:, None]
        objects = [F.interpolate(mask, stage.shape[-2:])[:, 0] for stage in stages]
        return [
            ("stage_object", self.backbone_object_weight, objects),
            ("stage_background", self.backbone_background_weight, [1 - mask for mask in objects]),
        ]

    def _head_losses(self, student: Any, teacher: Any) -> Losses:
        rois = self._shared_rois(student, teacher)
        wanted, found = (model.candidate_logits(rois) for model in (teacher, student))
        positive = rois.instance >= 0
        own = self.positive_weight, self.positive_temperature
        parts = {
            "positive": (positive, *own),
            "negative": (~positive, self.negative_weight, self.negative_temperature),
        }
        if self.head == "whole":
            parts = {"rois": (torch.ones_like(positive), *own)}
        return {
            name: weight * mean_divergence(wanted[rows], found[rows], temperature)
            for name, (rows, weight, temperature) in parts.items()
            if weight
        }

    def _shared_rois(self, student: Any, teacher: Any) -> Candidates:
        """Return the RoIs that both classify, each with its object."""
        return student.candidates if self.rois == "student" else student.sample(teacher.proposals)

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the cells and the RoIs that belong to objects."""
        masks: dict[str, Tensor] = {}
        boxes: dict[str, Tensor] = {}
        if self._neck and self.neck == "decoupled":
            strides = (f"stride {stride}" for stride in student.strides)
            masks = dict(zip(strides, self._object_masks(student, batch), strict=True))
        if self._backbone and self.backbone == "decoupled":
            masks["backbone"] = backbone_mask(batch)
        if self._head:
            rois = self._shared_rois(student, teacher).positive
            assert rois.rois is not None
            boxes["positive RoIs"] = rois.rois[rois.index[rois.image == 0], 1:]
        return Focus({name: mask[0] for name, mask in masks.items()}, boxes)


def imitation(students: list[Tensor], teachers: list[Tensor], regions: list[Region]) -> Losses:
    """Return, by region, alpha / (2 N) sum of squared differences on its N cells and channels.

    Of maps (B, C, H, W), divided by their number; 0 in a map without such cells.
    """
    pairs = zip(students, teachers, strict=True)
    halves = [squared_distance(found, wanted) / (2 * found.shape[1]) for found, wanted in pairs]
    return {
        name: [
            weight / len(halves) * mean_over(half, cells)
            for half, cells in zip(halves, masks, strict=True)
        ]
        for name, weight, masks in regions
        if weight
    }


def _scaled(value: Any, rate: float) -> Any:
    """Return a term times a rate, by level where the term is."""
    return [rate * each for each in value] if isinstance(value, list) else rate * value


def mean_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(p^T || p^S), the mean over the rows of logits (R, C + 1)."""
    each = categorical_divergence(teacher, student, temperature)
    return each.sum() / shared_count(len(each))


def backbone_mask(batch: Batch) -> Tensor:
    """Return (B, H / 4, W / 4): the cells of all objects, to be resized to the stages.

    The nearest cell is taken, as in the released code, which can lose a small object.
    """
    height, width = (max(side // BACKBONE_STRIDE, 1) for side in batch.inputs.shape[-2:])
    return object_mask(batch, BACKBONE_STRIDE, (height, width))
