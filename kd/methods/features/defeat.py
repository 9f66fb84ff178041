"""DeFeat: separate distillation of objects and background (Guo et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import adaptations, adapted, squared_distance
from kd.methods.ops.candidates import roi_boxes
from kd.methods.ops.divergences import categorical_divergence
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.masks import map_sizes, object_mask, object_masks
from kd.methods.ops.pyramid import ObjectSides, sides_of
from kd.methods.ops.reduction import mean_over

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Candidates, Channels
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")

BACKBONE_STRIDE = 4
"""Pixels per cell of the backbone's mask before it is resized to each stage."""

Region = tuple[str, float, Sequence["Tensor | None"]]
"""Name, weight, and a mask (B, H, W) of each map's cells in the region; None selects all cells."""


class DeFeat(Method):
    """Neck maps, backbone maps and class outputs, each split into objects and background.

    Loss: half the squared difference of maps, averaged over the cells of objects and over the cells
    of the background, each with its weight, and over levels. Stages of the backbone have the same
    terms. Class outputs have T^2 times their KL divergence, averaged over positive and over
    negative RoIs.

    Code: official (ggjy/DeFeat.pytorch c46a793d). It trains the neck alone, with weights of 3 and
    12 on VOC. The defaults are the decoupled neck of the paper's COCO tables, which applies to
    every detector with a neck. The author gave its weights for Faster R-CNN in issue 18 of that
    repository.

    Here: a weight of 0 leaves a term out. The full method adds the backbone and, on Faster R-CNN,
    the class outputs. Unlike in the code, labels are those of the compared RoIs, background is the
    last class, and the background has a separate temperature, as in the paper. Masks cover the
    cells of object boxes: by level for the neck, of all boxes for the backbone.

    Unknown: the weights on RetinaNet (here those of Faster R-CNN), of the backbone (presets have 1)
    and of the class outputs on COCO (presets have 2), and the temperatures of the tables. How the
    code was trained with SyncBN is not stated; here the backbone has it, as in mmdet (``norm`` of a
    schedule).
    """

    title = "DeFeat"
    cite = "guo2021distilling"
    weights: ClassVar = {
        "loss_defeat_object": "object_weight",
        "loss_defeat_background": "background_weight",
        "loss_defeat_neck": "object_weight",
        "loss_defeat_positive": "positive_weight",
        "loss_defeat_negative": "negative_weight",
        "loss_defeat_rois": "positive_weight",
    }

    neck: Literal["decoupled", "whole"] = "decoupled"
    """Imitation of the neck: objects and background apart, or the whole map with
    ``object_weight``."""
    object_weight: NonNegativeFloat = 4.0
    """alpha_obj, the weight of the neck's cells on objects."""
    background_weight: NonNegativeFloat = 16.0
    """alpha_bg, the weight of the neck's other cells."""
    head: Literal["decoupled", "whole"] = "decoupled"
    """Imitation of class outputs: positive and negative RoIs apart, or all RoIs with the settings
    of positive ones."""
    positive_weight: NonNegativeFloat = 0.0
    """beta_obj, the weight of positive RoIs' class outputs. The released code has 2, switched off.
    """
    negative_weight: NonNegativeFloat = 0.0
    """beta_bg, the weight of negative RoIs' class outputs."""
    positive_temperature: PositiveFloat = 1.0
    """T_obj, the temperature of positive RoIs' class outputs."""
    negative_temperature: PositiveFloat = 1.0
    """T_bg, the temperature of negative RoIs' class outputs."""
    rois: Literal["teacher", "student"] = "teacher"
    """Model whose proposals are sampled as RoIs. In the code's default branch it is the teacher."""
    backbone: Literal["decoupled", "whole"] = "decoupled"
    """Imitation of the backbone: objects and background apart, or whole maps with
    ``backbone_object_weight`` (United-Perception)."""
    backbone_object_weight: NonNegativeFloat = 0.0
    """Weight of the backbone's cells on objects."""
    backbone_background_weight: NonNegativeFloat = 0.0
    """Weight of the backbone's other cells."""
    backbone_stages: PositiveInt = 2
    """Number of imitated stages, from the last. The author names stages 3 and 4 of a ResNet."""
    warmup_steps: NonNegativeInt = 0
    """Number of first steps over which all weights rise linearly from 0 (United-Perception)."""
    level_sides: ObjectSides = "scaled"

    @property
    def assigns_levels(self) -> bool:
        return self._neck and self.neck == "decoupled"

    @property
    def needs(self) -> Needs:
        keys = {"neck"} if self._neck else set()
        keys |= {"stages"} if self._backbone else set()
        keys |= {"candidates", "rois"} if self._head else set()
        return Needs(both=frozenset(keys))

    @property
    def _neck(self) -> bool:
        """True if a term imitates the neck."""
        return bool(self.object_weight or (self.neck == "decoupled" and self.background_weight))

    @property
    def _head(self) -> bool:
        """True if a term compares class outputs."""
        return bool(self.positive_weight or (self.head == "decoupled" and self.negative_weight))

    @property
    def _backbone(self) -> bool:
        """True if a term imitates the backbone."""
        background = self.backbone == "decoupled" and self.backbone_background_weight
        return bool(self.backbone_object_weight or background)

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a 3x3 convolution per neck level, and one with a ReLU per backbone stage."""
        layers = adaptations(student.neck, teacher.neck, "3x3") if self._neck else {}
        if self._backbone:
            student_channels, teacher_channels = (
                model.stages[-self.backbone_stages :] for model in (student, teacher)
            )
            stages = adaptations(student_channels, teacher_channels, "3x3_relu").values()
            layers |= {f"stage{stage}": layer for stage, layer in enumerate(stages)}
        return layers

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return the weighted terms of imitated maps by level, and those of RoIs as scalars.

        ``loss_defeat_object`` and ``_background`` of the neck (``_neck`` of whole maps),
        ``_stage_object`` and ``_stage_background`` of the backbone (``_stage`` of whole maps),
        ``_positive`` and ``_negative`` of RoIs (``_rois`` of all).
        """
        losses: Losses = {}
        if self._neck:
            student_maps = [adapted(adapters, level, m) for level, m in enumerate(student.neck)]
            losses |= imitation(student_maps, teacher.neck, self._neck_regions(student, batch))
        if self._backbone:
            student_stages, teacher_stages = (
                model.stages[-self.backbone_stages :] for model in (student, teacher)
            )
            student_maps = [
                adapters[f"stage{stage}"](full_precision(maps))
                for stage, maps in enumerate(student_stages)
            ]
            regions = self._backbone_regions(student_stages, batch)
            losses |= imitation(student_maps, teacher_stages, regions)
        if self._head:
            losses |= self._head_losses(student, teacher)
        # The weights rise linearly during the warm-up.
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
        """Return the masks of objects on the neck by level, (B, H, W)."""
        sizes = map_sizes(student.neck)
        return object_masks(batch, student.strides, sizes, sides_of(self.level_sides))

    def _backbone_regions(self, stages: list[Tensor], batch: Batch) -> list[Region]:
        if self.backbone == "whole":
            return [("stage", self.backbone_object_weight, [None] * len(stages))]
        mask = backbone_mask(batch)[:, None]
        # Nearest cell, as in the released code: a smooth mask would mix objects and background.
        objects = [F.interpolate(mask, stage.shape[-2:])[:, 0] for stage in stages]
        return [
            ("stage_object", self.backbone_object_weight, objects),
            ("stage_background", self.backbone_background_weight, [1 - mask for mask in objects]),
        ]

    def _head_losses(self, student: Any, teacher: Any) -> Losses:
        rois = self._shared_rois(student, teacher)
        teacher_logits, student_logits = (
            model.candidate_logits(rois) for model in (teacher, student)
        )
        positive = rois.instance >= 0
        parts = {
            "positive": (positive, self.positive_weight, self.positive_temperature),
            "negative": (~positive, self.negative_weight, self.negative_temperature),
        }
        if self.head == "whole":
            every = torch.ones_like(positive)
            parts = {"rois": (every, self.positive_weight, self.positive_temperature)}
        return {
            name: weight * mean_divergence(teacher_logits[rows], student_logits[rows], temperature)
            for name, (rows, weight, temperature) in parts.items()
            if weight
        }

    def _shared_rois(self, student: Any, teacher: Any) -> Candidates:
        """Return the RoIs that both models classify, each with its object."""
        return student.candidates if self.rois == "student" else student.sample(teacher.proposals)

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the cells and the RoIs of objects."""
        masks: dict[str, Tensor] = {}
        boxes: dict[str, Tensor] = {}
        if self._neck and self.neck == "decoupled":
            masks = by_stride(student.strides, self._object_masks(student, batch))
        if self._backbone and self.backbone == "decoupled":
            masks["backbone"] = backbone_mask(batch)
        if self._head:
            positive = self._shared_rois(student, teacher).positive
            boxes["positive RoIs"] = roi_boxes(positive[positive.image == 0])
        maps = {name: mask[0] for name, mask in masks.items()}
        return Focus(maps, boxes, quantity="object mask")


def imitation(
    student_maps: list[Tensor], teacher_maps: list[Tensor], regions: list[Region]
) -> Losses:
    """Return, by region and map, alpha / (2 N) sum of squared differences on the region's elements.

    N is the number of the region's cells in the batch times the number of channels. Maps are
    (B, C, H, W), and the weight alpha is divided by their number. The term of a map without cells
    of the region is 0.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    # Half of the mean over channels; ``mean_over`` divides by the region's cells.
    halves = [squared_distance(s, t) / (2 * s.shape[1]) for s, t in pairs]
    return {
        name: [
            weight / len(halves) * mean_over(half, mask)
            for half, mask in zip(halves, masks, strict=True)
        ]
        for name, weight, masks in regions
        if weight
    }


def _scaled(term: Any, factor: float) -> Any:
    """Return a term, a scalar or a list with one scalar per level, times a factor."""
    return [factor * level for level in term] if isinstance(term, list) else factor * term


def mean_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(p^T || p^S), the mean over the rows of logits (R, C + 1)."""
    return mean_over(categorical_divergence(teacher, student, temperature))


def backbone_mask(batch: Batch) -> Tensor:
    """Return (B, H / 4, W / 4): 1 in the cells of all objects, before the mask is resized.

    The released code resizes it to the nearest cell of each stage, which can lose a small object.
    """
    height, width = (max(side // BACKBONE_STRIDE, 1) for side in batch.inputs.shape[-2:])
    return object_mask(batch, BACKBONE_STRIDE, (height, width))
