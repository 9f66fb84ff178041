"""FGD: focal and global knowledge distillation (Yang et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import NonNegativeFloat, PositiveFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import aligned, alignment
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.levels import (
    TWO_STAGE_LEVELS,
    ComparedLevels,
    channel_pairs,
    compared_levels,
    resized,
)
from kd.methods.ops.masks import largest_weights, map_sizes, padded_boxes
from kd.methods.ops.pyramid import CellFactor, Pyramid, cell_factor_of, fitted_cell_factor
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kd.observers import Batch, Channels
else:
    torch = LazyModule("torch")


class Scene(NamedTuple):
    """Boxes of a batch as fractions of the maps' extent."""

    boxes: Tensor
    """(B, G, 4), xyxy, 0 to 1 for positions on the map; rows that are no box are padding."""
    is_box: Tensor
    """(B, G), true for boxes."""


class FocalGlobal(Method):
    """Neck maps under attention masks, objects and background apart, and their global relations.

    Loss: on each level, four terms, averaged over images. Foreground: squared differences of maps,
    weighted by the teacher's spatial and channel attention and, in each box, by 1 / its number of
    cells; where boxes overlap, the smallest counts. Background: the same over all other cells, with
    the weight 1 / their number. Attention: absolute differences of both attentions. Global: squared
    differences of the outputs of a GCNet block on each side (equations 1 to 12). An attention is a
    softmax at temperature T, times its number of cells or channels.

    Code: official (yzd-v/FGD c03a6cf). Preset ``fgd_code`` equals it.

    Here: a box covers the cells of the batch's padded input that it overlaps. The code scales a box
    by the size of its image without padding, so in a batch of several image sizes its boxes are
    displaced (``extent``). The attention and the global term sum over all cells, so the term of the
    finest level can be 256 times that of the fifth. The author advises to divide by the number of
    cells where it dominates (issue 72); ``levels_alike`` does, and preset ``fgd_balanced`` sets it.
    A factor can scale these sums to the image size (``cell_factor``). It is off by default: at the
    start of a training of RetinaNet on images of 128 px, their gradients at the neck were 4 to 14
    times that of detection with the factor, and 0.1 to 0.3 times without it.

    Unknown: the weights on ATSS, which has no published configuration; they are those of RetinaNet.
    """

    title = "FGD"
    cite = "yang2022focal"
    across_pyramids = True
    weights: ClassVar = {
        "loss_fgd_foreground": "foreground_weight",
        "loss_fgd_background": "background_weight",
        "loss_fgd_attention": "attention_weight",
        "loss_fgd_global": "global_weight",
    }

    foreground_weight: NonNegativeFloat = 1e-3
    """alpha, the weight of the cells of boxes: 1e-3 for RetinaNet and GFL, 1.6e-3 for FCOS and
    RepPoints, 5e-5 for Faster R-CNN."""
    background_weight: NonNegativeFloat = 5e-4
    """beta, the weight of the other cells: half of alpha."""
    attention_weight: NonNegativeFloat = 5e-4
    """gamma, the weight of the attention term: half of alpha, and 5e-5 for Faster R-CNN."""
    global_weight: NonNegativeFloat = 5e-6
    """lambda, the weight of the global term: alpha / 200, and 5e-7 for Faster R-CNN."""
    temperature: PositiveFloat = 0.5
    """T, the temperature of the attention: 0.5, and 0.8 for FCOS."""
    levels: ComparedLevels = None
    extent: Literal["input", "image"] = "input"
    """Size by which boxes are scaled to a map: that of the padded input, which the map covers, or
    that of the image without padding (the code)."""
    levels_alike: bool = False
    """If true, sums over all cells of a level count as if each level had the mean number of cells
    of the compared levels. If false, they grow with the level's number of cells (the code)."""
    cell_factor: CellFactor = "published"

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        if not two_stage:
            return {}
        return {
            "foreground_weight": 5e-5,
            "background_weight": 2.5e-5,
            "attention_weight": 5e-5,
            "global_weight": 5e-7,
            "levels": TWO_STAGE_LEVELS,
        }

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"neck"}))

    def fitted(self, pyramid: Pyramid) -> Self:
        """Return the settings with the factor of sums over cells as a number."""
        factor = fitted_cell_factor(self.cell_factor, pyramid.image_size)
        return super().fitted(pyramid).model_copy(update={"cell_factor": factor})

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return the layers by student level: ``student0`` and ``teacher0``, the global blocks.

        ``align0``, a 1x1 convolution, is added where widths differ. The teacher's block is learned,
        too, as in the code.
        """
        from kd.methods.ops.context_block import GlobalContextBlock

        layers: dict[str, nn.Module] = {}
        levels = compared_levels(student.strides, teacher.strides, self.levels)
        for level, widths in channel_pairs(student, teacher, levels).items():
            layers |= alignment(level, *widths)
            if self.global_weight:
                for side in ("student", "teacher"):
                    layers[f"{side}{level}"] = GlobalContextBlock(widths[1])
        return layers

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_fgd_foreground``, ``_background``, ``_attention``, ``_global``, by level.

        A term of weight 0 is left out.
        """
        scene = self._scene(batch)
        pairs = compared_levels(student.strides, teacher.strides, self.levels)
        factors = self._cell_factors([student.neck[level] for level, _ in pairs])
        losses: dict[str, list[Tensor]] = {}
        for (level, other), factor in zip(pairs, factors, strict=True):
            student_map = aligned(adapters, level, student.neck[level])
            student_map = resized(student_map, teacher.neck[other])
            teacher_map = full_precision(teacher.neck[other].detach())
            images = shared_count(len(student_map))
            for name, value in self._local_terms(student_map, teacher_map, scene, factor):
                losses.setdefault(f"loss_fgd_{name}", []).append(value.sum() / images)
            if self.global_weight:
                student_map = adapters[f"student{level}"](student_map)
                teacher_map = adapters[f"teacher{level}"](teacher_map)
                squares = (student_map - teacher_map).square().sum()
                scaled = self.global_weight * factor * squares / images
                losses.setdefault("loss_fgd_global", []).append(scaled)
        return dict(losses)

    def _scene(self, batch: Batch) -> Scene:
        """Return the boxes of a batch as fractions of the maps."""
        size = batch.inputs.shape[-2:]
        extents = [s.img_shape if self.extent == "image" else size for s in batch.samples]
        pairs = zip(batch.gt_boxes, extents, strict=True)
        return Scene(*padded_boxes([fractions(boxes, *extent[:2]) for boxes, extent in pairs]))

    def _cell_factors(self, maps: list[Tensor]) -> list[float]:
        """Return the factor of sums over all cells, by level."""
        factor = cell_factor_of(self.cell_factor)
        cells = [height * width for height, width in map_sizes(maps)]
        mean = sum(cells) / len(cells)
        return [factor * mean / count if self.levels_alike else factor for count in cells]

    def _local_terms(
        self, student_map: Tensor, teacher_map: Tensor, scene: Scene, cell_factor: float
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield name and values (B, ...) of the terms without layers, for maps (B, C, H, W).

        A term is the sum of its values over the batch, divided by the number of images.
        """
        spatial, channel = attentions(teacher_map, self.temperature)
        if self.foreground_weight or self.background_weight:
            weighted = (student_map - teacher_map).square() * channel[:, :, None, None]
            distance = spatial * weighted.sum(1)
            foreground, background = scale_masks(scene, map_sizes([teacher_map])[0])
            if self.foreground_weight:
                yield "foreground", self.foreground_weight * distance * foreground
            if self.background_weight:
                yield "background", self.background_weight * distance * background
        if self.attention_weight:
            student_spatial, student_channel = attentions(student_map, self.temperature)
            cells = (student_spatial - spatial).abs().flatten(1).sum(1)
            channels = (student_channel - channel).abs().sum(1)
            yield "attention", self.attention_weight * (cell_factor * cells + channels)

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the weight of squared differences in each cell, relative to the level's largest.

        It is the teacher's spatial attention times the masks of objects and of the background.
        """
        scene, maps = self._scene(batch), []
        levels = compared_levels(student.strides, teacher.strides, self.levels)
        for _, other in levels:
            teacher_map = full_precision(teacher.neck[other])
            spatial, _ = attentions(teacher_map, self.temperature)
            foreground, background = scale_masks(scene, map_sizes([teacher_map])[0])
            masks = self.foreground_weight * foreground + self.background_weight * background
            weight = (spatial * masks)[0]
            maps.append(weight / weight.max().clamp(min=1e-12))
        strides = (student.strides[level] for level, _ in levels)
        return Focus(by_stride(strides, maps), quantity="weight of a cell, largest 1")


def fractions(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return boxes (G, 4), xyxy in pixels, as fractions of a height and a width."""
    return torch.stack([boxes[:, 0::2] / width, boxes[:, 1::2] / height], -1).flatten(1)


def attentions(maps: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return A^S (B, H, W) and A^C (B, C) of maps (B, C, H, W), each of mean 1 in an image.

    They are H W softmax(mean over channels of |F| / T) over cells, and C softmax(mean over cells of
    |F| / T) over channels (equations 3 and 4).
    """
    magnitude = maps.abs() / temperature
    spatial = magnitude.mean(1).flatten(1).softmax(1) * magnitude[0, 0].numel()
    channel = magnitude.mean((2, 3)).softmax(1) * magnitude.shape[1]
    return spatial.unflatten(1, maps.shape[-2:]), channel


def scale_masks(scene: Scene, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the weights of cells of objects and of the background, (B, H, W) each.

    A cell of an object has 1 / (number of cells of its box), the largest if there are several. A
    box covers all cells from that of its top left corner to the one after its bottom right corner,
    as in the code; cells beyond the border count. A background cell has 1 / (number of them in the
    image).
    """
    height, width = size
    left, top, right, bottom = scene.boxes.unbind(-1)
    edges = [(left * width).floor(), (top * height).floor()]
    edges += [(right * width).ceil() + 1, (bottom * height).ceil() + 1]
    foreground = largest_weights(
        torch.stack(edges, -1), scene.is_box, size, _inverse_area, scene.boxes.dtype
    )
    background = (foreground <= 0).to(foreground.dtype)
    return foreground, background / background.sum((1, 2), keepdim=True).clamp(min=1)


def _inverse_area(row: Tensor, column: Tensor, height: Tensor, width: Tensor) -> Tensor:
    return 1 / (height * width)
