"""PFI, prediction-guided feature imitation: P_dif weighs features (Li et al., AAAI 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import adaptations, adapted
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.reduction import shared_sum

if TYPE_CHECKING:
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Channels, DenseObservation
else:
    F = LazyModule("torch.nn.functional")


class PredictionGuidedImitation(Method):
    """Neck maps, weighted by the difference of class outputs.

    Loss: at each cell, the squared difference of class outputs, averaged over classes and anchors,
    times the squared difference of neck maps, averaged over channels (equations 7 to 9). A level's
    term is the norm of these products in an image, divided by the number of cells and averaged over
    images; terms are averaged over levels. There is no mask and no threshold.

    Code: unofficial drafts in mmrazor, and SparseML. There is no official code. The draft in
    mmrazor has raw logits with a linear form (commit 4a47267d) and later with a norm (d5c36191):
    presets ``pfi_mmrazor`` and ``pfi_mmrazor_norm``. Neither has a layer for unequal widths.
    SparseML's form, preset ``pfi_linear``, always has a projection without bias.

    Here: the weight is the paper's beta. A 1x1 convolution adapts the student's maps only on levels
    whose numbers of channels differ. Predictions are class maps alone, without centerness. Beyond
    the paper's heads: SSD has each anchor's softmax, background included; YOLOv3 has objectness
    times class.

    Unknown: whether outputs are probabilities or logits (``input``), the norm (``reduction``), and
    whether the prediction difference has a gradient (``detach_prediction``). Literally (preset
    ``pfi_literal``) the paper has probabilities and a squared norm. The loss is then a thousandth
    of the detection loss, although beta is meant to bring both to the same scale. The default is
    logits and the norm of an image, not squared, by the rule in docs/reference/methods.md; the
    difference has a gradient.
    """

    title = "PFI"
    cite = "li2022knowledge"
    version = 2
    weights: ClassVar = {
        "loss_pfi": "weight",
    }

    weight: NonNegativeFloat = 1.5
    """beta, the weight of the mean over levels."""
    input: Literal["probability", "logit"] = "logit"
    """Class output whose difference guides the imitation; no source settles which."""
    reduction: Literal["squared", "linear", "norm", "image_norm"] = "image_norm"
    """Reduction of the products of both differences; see ``guided_distance``. ``image_norm`` does
    not depend on the number of images."""
    detach_prediction: bool = False
    """If true, the prediction difference is a weight without a gradient."""

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"neck", "class_maps"}))

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a 1x1 convolution for each level whose channels differ."""
        return adaptations(student.neck, teacher.neck, "none")

    def losses(
        self,
        student: DenseObservation,
        teacher: DenseObservation,
        batch: Batch,
        adapters: nn.ModuleDict,
    ) -> Losses:
        """Return ``loss_pfi``, one term per level."""
        scale = self.weight / len(student.neck)
        terms = []
        for level, student_map in enumerate(student.neck):
            gap = self._gap(student, teacher, level)
            gap = gap.detach() if self.detach_prediction else gap
            teacher_map = full_precision(teacher.neck[level].detach())
            difference = adapted(adapters, level, student_map) - teacher_map
            distance = difference.square().mean(1)  # F_dif (B, H, W), equation 8
            terms.append(scale * guided_distance(gap, distance, self.reduction))
        return {"loss_pfi": terms}

    def focus(self, student: DenseObservation, teacher: DenseObservation, batch: Batch) -> Focus:
        """Return P_dif of each level, at the size of the image."""
        size = batch.inputs.shape[-2:]
        gaps = (self._gap(student, teacher, level)[:1, None] for level in range(len(student.neck)))
        maps = by_stride(student.strides, (F.interpolate(gap, size)[0, 0] for gap in gaps))
        return Focus(maps, quantity="prediction difference P_dif")

    def _gap(self, student: DenseObservation, teacher: DenseObservation, level: int) -> Tensor:
        """Return P_dif (B, H, W) of one level."""
        teacher_maps, student_maps = (
            model.probability_maps if self.input == "probability" else model.class_maps
            for model in (teacher, student)
        )
        return prediction_gap(teacher_maps[level], student_maps[level])


def prediction_gap(teacher: Tensor, student: Tensor) -> Tensor:
    """Return P_dif (B, H, W): the mean squared difference over channels (equation 7)."""
    return (teacher.detach() - student).square().mean(1)


def guided_distance(gap: Tensor, distance: Tensor, reduction: str) -> Tensor:
    """Return a level's term from P_dif and F_dif, both (B, H, W) (equation 9).

    ``squared``: mean of (P F)^2; ``linear``: mean of P F; ``image_norm``: mean over images of
    ||P F||_2 / (H W); ``norm``: mean over images of ||P F||_2 / (B H W), which divides by the B
    images twice (mmrazor d5c36191). B counts the images of all processes.
    """
    product = gap * distance
    if reduction == "image_norm":
        return product.flatten(1).norm(dim=1).mean() / product[0].numel()
    if reduction == "squared":
        return product.square().mean()
    if reduction == "linear":
        return product.mean()
    # ``norm`` divides by B a second time, after the mean over images.
    images = shared_sum(product.new_full((), len(product)))
    return product.flatten(1).norm(dim=1).mean() / (images * product.shape[1:].numel())
