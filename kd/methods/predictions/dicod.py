"""DICOD: a classifier of crops teaches classes and boxes (Guo et al., NeurIPS 2021)."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.divergences import bernoulli_divergence, categorical_divergence
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.reduction import shared_count, sums_of_chunks
from kd.methods.ops.spatial_transformer import crops, crops_by_image

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Candidates
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")

CROPS_AT_ONCE = 32
"""Number of crops that pass the classifier together; their maps fit into the processor's cache."""
DEFAULT_CROP_SIDE = 112
"""Samples along a side of a crop if there is no classifier to set the number."""
FOCUS_CROPS = 16
"""Number of an image's crops in ``focus``."""


class Dicod(Method):
    """Crops of predicted boxes and of objects, as a classifier sees them.

    Loss: over positive candidates, T^2 times the KL divergence of the student's classes from those
    that a classifier gives the object's crop; and the mean absolute difference between the crops of
    the predicted box and of the object, in pixels and in maps of the classifier (equation 12 of
    arXiv 2106.05209).

    Code: official (NVlabs/DICOD f51fc995). The defaults are its configuration for SSD300, except
    the divisor of the class term (``count_empty_images``).

    Here: the paper uses lambda_kc = 0.4 at T = 2 for the other detectors too. A weight of 0 leaves
    a term out. No classifier is needed if the weights of both terms that read it are 0. Classifiers
    are trained with our schedule, ``configs/schedules/classifier.yaml``.

    Unknown: the other weights for other detectors (``lambda_kl``, ``lambda_l``), and the unit of
    their pixels (``pixel_unit``): they are in a supplement that was not available. Here they are
    SSD300's, in gray levels. Which rows average to 8 cells is not stated; here it is 4
    (``pixel_pool``). How the classifiers were trained is not stated. An image without positive
    boxes does not count in the paper and counts as one in the code; here it does not
    (``count_empty_images``).
    """

    title = "DICOD"
    cite = "guo2021classifiers"
    weights: ClassVar = {
        "loss_dicod_cls": "lambda_kc",
        "loss_dicod_loc": "lambda_l",
        "loss_dicod_kd_loc": "lambda_kl",
    }

    lambda_kc: NonNegativeFloat = 0.4
    """Weight of the classification distillation (equation 1)."""
    lambda_kl: NonNegativeFloat = 0.15
    """Weight of the localization distillation in the classifier's stages (equation 10)."""
    lambda_l: NonNegativeFloat = 0.15
    """Weight of the same distance in pixels (equation 11), in the unit of ``pixel_unit``."""
    pixel_unit: Literal["gray_level", "normalized"] = "gray_level"
    """Unit of the distance in pixels. ``gray_level``: levels from 0 to 255 for every detector, as
    in the released configuration, because SSD300 divides its images by 1. ``normalized``: the
    detector's normalized images, so that 0.15 weighs 57 times less with detectors that divide by
    about 57. No source states the unit for those."""
    temperature: PositiveFloat = 2.0
    """T, which divides the logits of the class term."""
    sigmoid: Literal["kl-bce", "kl-ce"] = "kl-bce"
    """Divergence of a sigmoid head: one per class (equations 5 to 7), or, in the code only, one of
    the sigmoids scaled to sum to 1."""
    crop_size: PositiveInt | None = None
    """Samples along a side of a crop, the paper's s. None: the classifier's input size, or the
    paper's 112 without a classifier."""
    stages: tuple[NonNegativeInt, ...] = (0,)
    """Stages of the classifier whose maps are compared; 0 is the output of its stem."""
    pixel_pool: PositiveInt = 4
    """Cells along a side to which pixels are averaged. Table 1's ``loc`` equals the row of 8 in
    Table 4, but the released configuration has 4."""
    stage_pools: tuple[PositiveInt, ...] = (8,)
    """Cells along a side to which each stage's maps are averaged. The code starts from gap_size (4)
    at the first of its layers, the pixels if they are one, and doubles it from layer to layer."""
    count_empty_images: bool = False
    """If true, an image without positive candidates counts as one box in the divisor of the class
    term. The paper divides by the K positive boxes; the released code divides by the sum over
    images of max(1, positives), so 6 positives beside an empty image cost 1/7 each. Its
    localization term divides by K in either case."""
    average: Literal["stages", "layers"] = "stages"
    """Layers over which the localization distance is averaged: stages alone (the code, and the
    submission's equations), or stages and pixels (according to notes on the final version)."""

    @model_validator(mode="after")
    def _one_pool_per_stage(self) -> Self:
        if not self.stages or len(self.stages) != len(self.stage_pools):
            raise ValueError("stages and stage_pools must have the same length, at least 1")
        return self

    @property
    def needs(self) -> Needs:
        reads_classifier = self.lambda_kc or self.lambda_kl
        teacher: Literal["classifier"] | None = "classifier" if reads_classifier else None
        return Needs(student=frozenset({"candidates"}), teacher=teacher)

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_dicod_cls``, ``_loc`` (pixels) and ``_kd_loc`` (stages), scalars."""
        positive = student.candidates.positive
        objects = object_crops(batch, self._side(teacher))
        count = shared_count(len(positive))
        losses: Losses = {}
        if self.lambda_kc:
            total = self._class_divergence(student, teacher, batch, objects).sum()
            divisor = self._class_divisor(positive, len(batch.samples))
            losses["loss_dicod_cls"] = self.lambda_kc * total / divisor
        if self.lambda_l or self.lambda_kl:
            distances = self._distances(student, teacher, batch, objects)
            with_pixels = self.average == "layers"
            layers = len(self.stages) + with_pixels
            if self.lambda_l:
                pixels = self.lambda_l * distances[0] / (layers if with_pixels else 1)
                losses["loss_dicod_loc"] = pixels / count
            if self.lambda_kl:
                losses["loss_dicod_kd_loc"] = self.lambda_kl * distances[-1] / layers / count
        return losses

    def _class_divisor(self, positive: Candidates, images: int) -> Any:
        """Return the divisor of the class term."""
        if not self.count_empty_images:
            return shared_count(len(positive))
        # 1 for images with a positive box; the others count as one box each.
        occupied = positive.image.new_zeros(images).index_fill(0, positive.image, 1)
        return shared_count(len(positive) + images - occupied.sum())

    def _class_divergence(
        self, student: Any, teacher: Any, batch: Batch, objects: Tensor
    ) -> Tensor:
        """Return (K,): the divergence of each positive box from its object's crop."""
        positive = student.candidates.positive
        with torch.no_grad():
            logits = [
                teacher.logits(_classifier_input(chunk, teacher, batch))
                for chunk in objects.split(CROPS_AT_ONCE)
            ]
        teacher_logits = full_precision(torch.cat(logits))[positive.instance]
        student_logits = student.candidate_logits(positive)
        if student.candidate_softmax:
            return foreground_divergence(teacher_logits, student_logits, self.temperature)
        form = bernoulli_divergence if self.sigmoid == "kl-bce" else scaled_divergence
        return form(teacher_logits, student_logits, self.temperature)

    def _distances(self, student: Any, teacher: Any, batch: Batch, objects: Tensor) -> list[Tensor]:
        """Return the distance of predicted boxes' crops from their objects', summed over boxes.

        There is one scalar for pixels and one for the sum over stages; one of weight 0 is left out.
        """
        positive = student.candidates.positive
        positive = positive[positive.image.argsort(stable=True)]
        boxes = student.candidate_boxes(positive)
        with torch.no_grad():
            chunks = [self._layers(chunk, teacher, batch) for chunk in objects.split(CROPS_AT_ONCE)]
            object_layers = [torch.cat(layer) for layer in zip(*chunks, strict=True)]

        def distances(chunk: Chunk, boxes: Tensor) -> list[Tensor]:
            by_image = boxes[chunk.rows].split(chunk.sizes)
            predicted = crops_by_image(batch.inputs, by_image, self._side(teacher))
            instance = positive.instance[chunk.rows]
            sums = [
                distance(layer, object_layer[instance]).sum()
                for layer, object_layer in zip(
                    self._layers(predicted, teacher, batch), object_layers, strict=True
                )
            ]
            pixels = int(self.lambda_l > 0)
            return sums[:pixels] + ([torch.stack(sums[pixels:]).sum()] if self.lambda_kl else [])

        images = torch.arange(len(batch.samples), device=boxes.device)[:, None]
        # Read once: a chunk that counted its own boxes would make the host wait for a GPU.
        counts = (positive.image == images).sum(1).tolist()
        return sums_of_chunks(distances, chunks_by_image(counts, CROPS_AT_ONCE), [boxes])

    def _side(self, teacher: Any) -> int:
        """Return the number of samples along a side of a crop."""
        return self.crop_size or (teacher.size if teacher else DEFAULT_CROP_SIDE)

    def _layers(self, objects: Tensor, teacher: Any, batch: Batch) -> list[Tensor]:
        """Return the compared layers of crops (P, 3, s, s): pixels, then stages, all pooled."""
        layers = []
        if self.lambda_l:
            pixels = F.adaptive_avg_pool2d(objects, self.pixel_pool)
            if self.pixel_unit == "gray_level" and batch.std is not None:
                # The difference of two crops is not affected by the mean that was subtracted.
                pixels = pixels * batch.std[:, None, None]
            layers.append(pixels)
        if self.lambda_kl:
            stages = teacher.stages(_classifier_input(objects, teacher, batch), max(self.stages))
            layers += [
                F.adaptive_avg_pool2d(full_precision(stages[stage]), cells)
                for stage, cells in zip(self.stages, self.stage_pools, strict=True)
            ]
        return layers

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the first predicted boxes and their objects, and the crops of both."""
        positive = student.candidates.positive
        positive = positive[positive.image == 0]
        positive = positive[positive.instance.argsort(stable=True)[:FOCUS_CROPS]]
        boxes_by_name = {
            "predicted boxes": student.candidate_boxes(positive).detach(),
            "objects": positive.truth(batch),
        }
        side = self._side(teacher)
        return Focus(
            boxes=boxes_by_name,
            crops={
                name: crops(batch.inputs, positive.image, boxes, side)
                for name, boxes in boxes_by_name.items()
            },
        )


class Chunk(NamedTuple):
    """Rows that are computed together, of boxes that are sorted by image."""

    rows: slice
    sizes: list[int]
    """Number of the rows in each image."""


def chunks_by_image(counts: list[int], size: int) -> list[Chunk]:
    """Return chunks of at most ``size`` boxes, given the number in each image; at least one."""
    ends = list(accumulate(counts))
    chunks = []
    for first in range(0, max(sum(counts), 1), size):
        inside = (
            min(end, first + size) - max(end - count, first)
            for end, count in zip(ends, counts, strict=True)
        )
        chunks.append(Chunk(slice(first, first + size), [max(number, 0) for number in inside]))
    return chunks


def object_crops(batch: Batch, size: int) -> Tensor:
    """Return (G, 3, size, size): the crops of all ground-truth boxes of the batch."""
    return crops_by_image(batch.inputs, batch.gt_boxes, size)


def distance(crops: Tensor, others: Tensor) -> Tensor:
    """Return (P,): the mean absolute difference of maps (P, C, H, W), pair by pair."""
    return (crops - others).abs().flatten(1).mean(1)


def foreground_divergence(
    teacher_logits: Tensor, student_logits: Tensor, temperature: float
) -> Tensor:
    """Return (P,) T^2 KL(p^T || p^S) of logits (P, C) and (P, C + 1), background last.

    Equations 2 to 4: the classifier gives background no probability.
    """
    teacher = (teacher_logits.detach() / temperature).log_softmax(1)
    student = (student_logits / temperature).log_softmax(1)[:, :-1]
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(1)


def scaled_divergence(teacher_logits: Tensor, student_logits: Tensor, temperature: float) -> Tensor:
    """Return (P,) T^2 KL of sigmoids (P, C) of z / T that are scaled to sum to 1."""
    # A softmax of the sigmoids' logarithms divides each sigmoid by their sum.
    teacher, student = (F.logsigmoid(z / temperature) for z in (teacher_logits, student_logits))
    return temperature**2 * categorical_divergence(teacher, student, 1)


def _classifier_input(objects: Tensor, teacher: Any, batch: Batch) -> Tensor:
    """Return crops (P, 3, s, s), normalized for the classifier."""
    if batch.mean is None or batch.std is None:
        return objects
    if batch.is_bgr:  # classifiers read RGB
        return teacher.normalized(objects.flip(1), batch.mean.flip(0), batch.std.flip(0))
    return teacher.normalized(objects, batch.mean, batch.std)
