"""DICOD: an image classifier teaches what is in boxes, and where they end (Guo et al., 2021)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.reduction import shared_count
from kd.methods.ops.spatial_transformer import crops, crops_by_image
from kd.methods.soft_labels import bernoulli_divergence, categorical_divergence

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Candidates
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")

CHUNK = 64
"""Crops that go through the classifier together; what one holds stays near the processor."""
SIDE = 112
"""Samples along a side of a crop where no classifier says it."""
SHOWN = 16
"""Crops that are drawn of an image."""


class Dicod(Method):
    """Equation 12 of the NeurIPS paper (arXiv 2106.05209), over the positive candidates.

    The defaults are the released configuration for SSD300 (NVlabs/DICOD f51fc995), but for the
    divisor of the class term (``count_empty_images``). Its lambda_kc = 0.4 at T = 2 the paper takes
    for the other detectors too. The other weights for those are in a supplement that was not found,
    so they have SSD300's. A weight of 0 leaves a term out, and without the classifier's two no
    classifier is needed.
    """

    title = "DICOD"
    weights: ClassVar = {
        "loss_dicod_cls": "lambda_kc",
        "loss_dicod_loc": "lambda_l",
        "loss_dicod_kd_loc": "lambda_kl",
    }

    lambda_kc: NonNegativeFloat = 0.4
    """Weight of the classification distillation (equation 1)."""
    lambda_kl: NonNegativeFloat = 0.15
    """Weight of the localisation distillation in the classifier's stages (equation 10)."""
    lambda_l: NonNegativeFloat = 0.15
    """Weight of the same distance in pixels (equation 11), in the unit of ``pixel_unit``."""
    pixel_unit: Literal["gray_level", "normalized"] = "gray_level"
    """Unit of the distance in pixels. ``gray_level``: levels from 0 to 255 for every detector,
    which is what the released configuration has, because SSD300 divides its images by 1.
    ``normalized``: as the detector normalizes its images, so 0.15 weighs 57 times less with
    detectors that divide by about 57. No source states the unit for those."""
    temperature: PositiveFloat = 2.0
    sigmoid: Literal["kl-bce", "kl-ce"] = "kl-bce"
    """Of a sigmoid head: a divergence per class (equations 5 to 7), or, in the code only, one of
    the sigmoids scaled to sum to 1."""
    crop_size: PositiveInt | None = None
    """Samples along a side of a crop, the paper's s: the classifier's own size, or 112 without
    one, which is the paper's."""
    stages: tuple[NonNegativeInt, ...] = (0,)
    """Of the classifier; 0 is what its stem returns."""
    pixel_pool: PositiveInt = 4
    """Cells along a side to which pixels are averaged. Table 1's ``loc`` equals the row of 8 in
    Table 4, but the released configuration has 4."""
    stage_pools: tuple[PositiveInt, ...] = (8,)
    """The same, of each stage. The code starts from gap_size (4) at the first of its layers, the
    pixels if they are one, and doubles it from layer to layer."""
    count_empty_images: bool = False
    """Let an image without positive candidates count as one box in the divisor of the class term.
    The paper divides by the K positive boxes; the released code divides by the sum over images of
    max(1, positives), so 6 positives beside an empty image cost 1/7 each. Its localization term
    divides by K in either case."""
    average: Literal["stages", "layers"] = "stages"
    """Whether stages alone are averaged (the code, and the submission's equations), or the pixels
    count as one more layer (as notes on the final version have it)."""

    @model_validator(mode="after")
    def _one_pool_per_stage(self) -> Self:
        if not self.stages or len(self.stages) != len(self.stage_pools):
            raise ValueError("stages and stage_pools list as many, and at least one")
        return self

    @property
    def needs(self) -> Needs:
        taught = self.lambda_kc or self.lambda_kl
        return Needs(student=frozenset({"candidates"}), teacher="classifier" if taught else None)

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
            joined = self.average == "layers"
            layers = len(self.stages) + joined
            if self.lambda_l:
                pixels = self.lambda_l * distances[0] / (layers if joined else 1)
                losses["loss_dicod_loc"] = pixels / count
            if self.lambda_kl:
                losses["loss_dicod_kd_loc"] = self.lambda_kl * distances[-1] / layers / count
        return losses

    def _class_divisor(self, positive: Candidates, images: int) -> Any:
        """Return the count that the class term is divided by."""
        if not self.count_empty_images:
            return shared_count(len(positive))
        occupied = positive.image.new_zeros(images).index_fill(0, positive.image, 1)
        return shared_count(len(positive) + images - occupied.sum())

    def _class_divergence(
        self, student: Any, teacher: Any, batch: Batch, objects: Tensor
    ) -> Tensor:
        """Return (K,): each positive box is to have the classes that its object's crop shows."""
        positive = student.candidates.positive
        with torch.no_grad():
            parts = [teacher.logits(_seen(part, teacher, batch)) for part in objects.split(CHUNK)]
        wanted = full_precision(torch.cat(parts))[positive.instance]
        found = student.candidate_logits(positive)
        if student.candidate_softmax:
            return foreground_divergence(wanted, found, self.temperature)
        form = bernoulli_divergence if self.sigmoid == "kl-bce" else scaled_divergence
        return form(wanted, found, self.temperature)

    def _distances(self, student: Any, teacher: Any, batch: Batch, objects: Tensor) -> list[Tensor]:
        """Return the distance of predicted boxes' crops to their objects', summed over boxes.

        What is on of two scalars: in pixels, and in stages summed over these.
        """
        positive = student.candidates.positive
        boxes = student.candidate_boxes(positive)
        with torch.no_grad():
            parts = [self._layers(part, teacher, batch) for part in objects.split(CHUNK)]
            truth = [torch.cat(layer) for layer in zip(*parts, strict=True)]

        def distances(rows: slice, own: Tensor) -> list[Tensor]:
            predicted = crops(batch.inputs, positive.image[rows], own, self._side(teacher))
            layers = zip(self._layers(predicted, teacher, batch), truth, strict=True)
            instance = positive.instance[rows]
            sums = [distance(found, wanted[instance]).sum() for found, wanted in layers]
            pixels = int(self.lambda_l > 0)
            return sums[:pixels] + ([torch.stack(sums[pixels:]).sum()] if self.lambda_kl else [])

        totals = [boxes[:0].sum()] * ((self.lambda_l > 0) + (self.lambda_kl > 0))
        for start in range(0, len(positive), CHUNK):
            rows = slice(start, start + CHUNK)
            sums = linearised(partial(distances, rows), boxes[rows])
            totals = [total + own for total, own in zip(totals, sums, strict=True)]
        return totals

    def _side(self, teacher: Any) -> int:
        return self.crop_size or (teacher.size if teacher else SIDE)

    def _layers(self, objects: Tensor, teacher: Any, batch: Batch) -> list[Tensor]:
        """Return what is compared of crops: their pixels, then stages, each averaged to cells."""
        found = []
        if self.lambda_l:
            pixels = F.adaptive_avg_pool2d(objects, self.pixel_pool)
            if self.pixel_unit == "gray_level" and batch.std is not None:
                pixels = pixels * batch.std[:, None, None]
            found.append(pixels)
        if self.lambda_kl:
            stages = teacher.stages(_seen(objects, teacher, batch), max(self.stages))
            found += [
                F.adaptive_avg_pool2d(full_precision(stages[stage]), cells)
                for stage, cells in zip(self.stages, self.stage_pools, strict=True)
            ]
        return found

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the first predicted boxes and their objects, and what is in both."""
        positive = student.candidates.positive
        chosen = positive[positive.image == 0]
        chosen = chosen[chosen.instance.argsort(stable=True)[:SHOWN]]
        boxes = {
            "predicted": student.candidate_boxes(chosen).detach(),
            "object": chosen.truth(batch),
        }
        return Focus(
            boxes=boxes,
            crops={
                name: crops(batch.inputs, chosen.image, each, self._side(teacher))
                for name, each in boxes.items()
            },
        )


def linearised(function: Callable[[Tensor], list[Tensor]], boxes: Tensor) -> list[Tensor]:
    """Return a function's scalars at boxes (P, 4), with the gradients that it has there.

    They are computed at once, so that nothing else of the function is kept for a backward pass.
    """
    if not (torch.is_grad_enabled() and boxes.requires_grad):
        return function(boxes)
    at = boxes.detach().requires_grad_()
    values = function(at)
    last = len(values) - 1
    slopes = [
        torch.autograd.grad(value, at, retain_graph=rank < last)[0]
        for rank, value in enumerate(values)
    ]
    shift = boxes - at.detach()  # 0, with a gradient
    pairs = zip(values, slopes, strict=True)
    return [value.detach() + (shift * slope).sum() for value, slope in pairs]


def object_crops(batch: Batch, size: int) -> Tensor:
    """Return (G, 3, size, size): all ground-truth boxes of the batch, one by one."""
    return crops_by_image(batch.inputs, batch.gt_boxes, size)


def distance(crops: Tensor, others: Tensor) -> Tensor:
    """Return (P,): the mean absolute difference of maps (P, C, M, H), pair by pair."""
    return (crops - others).abs().flatten(1).mean(1)


def foreground_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return (P,) T^2 KL(p^T || p^S) of logits (P, C) and (P, C + 1), background last.

    Equations 2 to 4: the classifier gives background no probability.
    """
    wanted = (teacher.detach() / temperature).log_softmax(1)
    found = (student / temperature).log_softmax(1)[:, :-1]
    return temperature**2 * (wanted.exp() * (wanted - found)).sum(1)


def scaled_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return (P,) T^2 KL of sigmoids (P, C) of z / T that are scaled to sum to 1."""
    wanted, found = (F.logsigmoid(logits / temperature) for logits in (teacher, student))
    return temperature**2 * categorical_divergence(wanted, found, 1)


def _seen(objects: Tensor, teacher: Any, batch: Batch) -> Tensor:
    """Return crops (P, 3, s, s) normalised as the classifier takes them."""
    if batch.mean is None or batch.std is None:
        return objects
    return teacher.normalised(objects, batch.mean, batch.std)
