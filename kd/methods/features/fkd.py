"""FKD: attention-guided and non-local feature distillation (Zhang & Ma, ICLR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.reduction import shared_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor, nn

    from kd.observers import Batch, Channels
else:
    torch = LazyModule("torch")
    nn = LazyModule("torch.nn")

EPSILON = 1e-12
"""Added under the root of a norm, whose gradient has no limit at 0."""

DEPENDENT_SETTINGS = (
    "transfer_weight",
    "feature_weight",
    "nonlocal_weight",
    "temperature",
    "channel_mask",
)
"""Settings whose defaults depend on form and kind."""
DEFAULTS_BY_KIND = {
    ("code", "one_stage"): (2.4e-2, 4.2e-4, 4.2e-4, 0.1, True),
    ("code", "two_stage"): (4e-3, 7e-5, 7e-5, 0.5, False),
    ("paper", "one_stage"): (4e-4, 2e-2, 4e-4, 0.5, True),
    ("paper", "two_stage"): (7e-5, 4e-3, 7e-5, 0.1, True),
}
"""Defaults of ``DEPENDENT_SETTINGS`` by form and kind of detector: those of copies of the
published code, and those of the paper as issue 5 of its repository quotes it. The two sources
exchange the roles of the first two weights, and the temperatures of the two kinds."""

CHANNEL_REDUCTIONS = (4, 4, 2)
"""Channels of the map per channel of the non-local block, by level, finest first. Levels after the
last have the last value."""


class FeatureDistillation(Method):
    """Attention, features under attention masks, and non-local relations.

    Loss: on each level, the L2 distance of mean maps over channels and over cells (attention
    transfer), of maps under a mask that follows the attention of both models (masked features), and
    of the outputs of non-local blocks (relations). Norms are not squared, and levels are summed.

    Code: copies of the official OpenReview supplement, and mmrazor. Every term is a norm over the
    images of one GPU, which would grow with the root of their number. The batch normalization of
    the blocks is of one GPU, too. ``images_per_group`` restores both.

    Here: a student of another width than its teacher gets a 1x1 convolution, whose output then
    replaces the student's map. Masks have no gradient, which the paper does not specify.

    Unknown: the form that produced the paper's tables (twice 12 epochs). ``form: code`` has signed
    means through learned layers, the mean of both models' masks, and non-local blocks that add to
    the map. ``form: paper`` has means of absolute values without layers, one mask from the sum of
    both attentions, and relations alone without pooling. The default is the code, because it was
    run. The layers within a relation are not known for the paper; here they are the code's. The
    number of images of a norm is not stated either; here it is 2. The abstract does not name its
    teacher; here it is Cascade R-CNN on ResNet-152.
    """

    title = "FKD"
    cite = "zhang2021improve"
    weights: ClassVar = {
        "loss_fkd_channel": "transfer_weight",
        "loss_fkd_spatial": "transfer_weight",
        "loss_fkd_feature": "feature_weight",
        "loss_fkd_nonlocal": "nonlocal_weight",
    }

    kind: Literal["one_stage", "two_stage"] = "one_stage"
    """Kind of detector, which selects the default of each number below."""
    form: Literal["code", "paper"] = "code"
    """Form of the terms: that of the published code or that of the paper."""
    transfer_weight: NonNegativeFloat
    """alpha, the weight of attention transfer: once for spatial, once for channel attention."""
    feature_weight: NonNegativeFloat
    """beta, the weight of masked features."""
    nonlocal_weight: NonNegativeFloat
    """gamma, the weight of non-local relations."""
    temperature: PositiveFloat
    """Temperature of the masks' softmax. The masks approach ones as it grows."""
    channel_mask: bool
    """If true, features are masked by channel too; they are not in the two-stage code."""
    levels: PositiveInt | None = None
    """Number of neck levels that are compared, from the finest; None compares all."""
    windows: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (8, 4, 2)
    """Cells along a side of the windows over which the non-local blocks' phi and g are pooled, by
    level, finest first; levels after the last have the last value. Copies of the published code
    have 8, 4, 2, 2, 2. The block that mmrazor 90c7af1f builds on (mmcv's ``NonLocal2d``) pools
    over 2 cells before, so its windows are 16, 8, 4, 4. Form ``code`` alone pools."""
    images_per_group: PositiveInt | None = 2
    """Number of images over which a norm and a block's batch normalization are computed; the terms
    of the groups are then averaged. 2 is the number on a GPU in mmdet's configurations, which the
    published code follows. None computes them over the whole batch."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """Set the numbers that are absent or None to the defaults of form and kind."""
        if not isinstance(values, dict):
            return values
        settings = {
            name: number
            for name, number in values.items()
            if number is not None or name not in DEPENDENT_SETTINGS
        }
        key = str(settings.get("form", "code")), str(settings.get("kind", "one_stage"))
        # An unknown form or kind fails the validation of that field.
        numbers = DEFAULTS_BY_KIND.get(key, DEFAULTS_BY_KIND["code", "one_stage"])
        return dict(zip(DEPENDENT_SETTINGS, numbers, strict=True)) | settings

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"neck"}))

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        return {"kind": "two_stage" if two_stage else "one_stage"}

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return the layers of the terms that have a weight; the teacher's blocks are among them.

        Names end in the index of the level: ``align0``, ``student0``, ``teacher0``, ``relation0``,
        ``feature0``, ``channel0``, ``spatial0``.
        """
        adapters: dict[str, nn.Module] = {}
        strides = student.strides or range(len(student.neck))
        for rank, level in enumerate(self._compared_levels(strides)):
            student_channels, teacher_channels = student.neck[level], teacher.neck[level]
            layers = self._layers(teacher_channels, rank)
            if student_channels != teacher_channels:
                layers["align"] = nn.Conv2d(student_channels, teacher_channels, 1)
            adapters |= {f"{name}{level}": layer for name, layer in layers.items()}
        return adapters

    def _layers(self, channels: int, rank: int) -> dict[str, nn.Module]:
        """Return the layers of the level that is ``rank``-th by fineness."""
        from kd.methods.ops.nonlocal_block import NonLocalBlock

        code, layers = self.form == "code", dict[str, "nn.Module"]()
        if self.nonlocal_weight:
            share, window = (
                values[min(rank, len(values) - 1)] for values in (CHANNEL_REDUCTIONS, self.windows)
            )
            inner, pool = max(channels // share, 1), window if code else 1
            for side in ("student", "teacher"):
                layers[side] = NonLocalBlock(channels, inner, pool, residual=code)
        if code and self.nonlocal_weight:
            layers["relation"] = nn.Conv2d(channels, channels, 1)
        if code and self.feature_weight:
            layers["feature"] = nn.Conv2d(channels, channels, 1)
        if code and self.transfer_weight:
            layers["channel"] = nn.Linear(channels, channels)
            layers["spatial"] = nn.Conv2d(1, 1, 3, padding=1)
        return layers

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_fkd_channel``, ``_spatial``, ``_feature`` and ``_nonlocal``, by level.

        A term of weight 0 is left out.
        """
        losses: dict[str, list[Tensor]] = {}
        for level in self._compared_levels(student.strides):
            terms = self._terms(student.neck[level], teacher.neck[level], adapters, level)
            for name, value in terms.items():
                losses.setdefault(f"loss_fkd_{name}", []).append(value)
        return dict(losses)

    def _compared_levels(self, strides: Sequence[int]) -> list[int]:
        """Return the indices of the neck levels that are compared, finest first."""
        return sorted(range(len(strides)), key=strides.__getitem__)[: self.levels]

    def _terms(
        self, student_map: Tensor, teacher_map: Tensor, adapters: nn.ModuleDict, level: int
    ) -> dict[str, Tensor]:
        """Return the weighted terms of one level's maps (B, C, H, W)."""

        def adapted(name: str, value: Tensor) -> Tensor:
            key = f"{name}{level}"
            return adapters[key](value) if key in adapters else value

        terms = {}
        student, teacher = full_precision(student_map), full_precision(teacher_map.detach())
        student = adapted("align", student)
        if self.transfer_weight:
            # The paper transfers mean magnitudes, the code signed means.
            s, t = (m.abs() if self.form == "paper" else m for m in (student, teacher))
            channel = adapted("channel", s.mean((2, 3))), t.mean((2, 3))
            spatial = adapted("spatial", s.mean(1, keepdim=True)), t.mean(1, keepdim=True)
            terms["channel"] = self.transfer_weight * distance(*channel)
            terms["spatial"] = self.transfer_weight * distance(*spatial)
        if self.feature_weight:
            features = adapted("feature", student), teacher
            mask = self._mask(student, teacher)
            terms["feature"] = self.feature_weight * distance(*features, mask)
        if self.nonlocal_weight:
            relations = (
                adapted("relation", adapted("student", student)),
                adapted("teacher", teacher),
            )
            terms["nonlocal"] = self.nonlocal_weight * distance(*relations)
        return terms

    def _mask(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mask of features, (B, 1, H, W), or (B, C, H, W) with ``channel_mask``."""
        mask = self._attention_mask(spatial_attention, student, teacher)[:, None]
        if self.channel_mask:
            channels = self._attention_mask(channel_attention, student, teacher)
            mask = mask * channels[:, :, None, None]
        return mask

    def _attention_mask(
        self, attention: Callable[[Tensor], Tensor], student: Tensor, teacher: Tensor
    ) -> Tensor:
        summed = self.form == "paper"
        return attention_mask(
            attention(student.detach()), attention(teacher), self.temperature, summed
        )

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the spatial mask at each level."""
        levels = self._compared_levels(student.strides)
        masks = []
        for level in levels:
            maps = (full_precision(model.neck[level][:1]) for model in (student, teacher))
            masks.append(self._attention_mask(spatial_attention, *maps)[0])
        strides = (student.strides[level] for level in levels)
        return Focus(by_stride(strides, masks), quantity="spatial attention mask")


def spatial_attention(maps: Tensor) -> Tensor:
    """Return G^s (B, H, W), the mean magnitude over channels of maps (B, C, H, W)."""
    return maps.abs().mean(1)


def channel_attention(maps: Tensor) -> Tensor:
    """Return G^c (B, C), the mean magnitude over the cells of maps (B, C, H, W)."""
    return maps.abs().mean((2, 3))


def attention_mask(student: Tensor, teacher: Tensor, temperature: float, summed: bool) -> Tensor:
    """Return M (B, ...), of mean 1 in each image, from attentions (B, ...).

    With n places in an image: n softmax((G^s + G^t) / T) if ``summed`` (the paper), else
    n (softmax(G^s / T) + softmax(G^t / T)) / 2 (the code).
    """
    student_logits, teacher_logits = (
        (attention / temperature).flatten(1) for attention in (student, teacher)
    )
    mean = (student_logits.softmax(1) + teacher_logits.softmax(1)) / 2
    mask = (student_logits + teacher_logits).softmax(1) if summed else mean
    return mask.view_as(student) * mask.shape[1]


def distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return sqrt(sum m (s - t)^2), the L2 norm of a difference (B, ...) under a mask.

    The sum is over the batches of all processes, or over the images of a group.
    """
    square = (student - teacher).square()
    square = square if mask is None else square * mask
    return (shared_sum(square.sum()) + EPSILON).sqrt()
