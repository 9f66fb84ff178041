"""FKD: attention-guided and non-local feature distillation (Zhang & Ma, ICLR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
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
"""What is added under the root of a norm, whose gradient has no limit at 0."""

FILLED = ("transfer_weight", "feature_weight", "nonlocal_weight", "temperature", "channel_mask")
NUMBERS = {
    ("code", "one_stage"): (2.4e-2, 4.2e-4, 4.2e-4, 0.1, True),
    ("code", "two_stage"): (4e-3, 7e-5, 7e-5, 0.5, False),
    ("paper", "one_stage"): (4e-4, 2e-2, 4e-4, 0.5, True),
    ("paper", "two_stage"): (7e-5, 4e-3, 7e-5, 0.1, True),
}
"""By form and kind of detector: of copies of the published code, and of the paper as issue 5 of its
repository quotes it. They exchange the first two weights' roles, and the kinds' temperatures."""

SHARES = (4, 4, 2)
"""Channels of the map per channel of the non-local block, by level, finest first. Levels after the
last have the last value."""


class FeatureDistillation(Method):
    """Attention transfer, masked feature imitation and non-local relations, summed over levels.

    ``form`` is the form of the terms. ``code``: signed means through learned layers, the mean of
    both models' masks, non-local blocks that add to the map. ``paper``: means of absolute values
    as they are, one mask from the sum of both attentions, relations alone without pooling; the
    layers within a relation are not known, here they are the code's. Masks have no gradient; the
    paper does not say. It is not known which of the two made the paper's tables (two times 12
    epochs), hence the default of what was run.

    Every term is an unsquared norm over the images of one GPU in the published code, so it would
    grow with the root of their number, and the blocks' batch normalization is of one GPU, too;
    ``images_per_group`` keeps both as they were. A student of another
    width than its teacher gets a 1x1 convolution, and what it returns stands for the map.
    """

    title = "FKD"
    weights: ClassVar = {
        "loss_fkd_channel": "transfer_weight",
        "loss_fkd_spatial": "transfer_weight",
        "loss_fkd_feature": "feature_weight",
        "loss_fkd_nonlocal": "nonlocal_weight",
    }

    kind: Literal["one_stage", "two_stage"] = "one_stage"
    """The kind of detector, for the numbers below that are not given."""
    form: Literal["code", "paper"] = "code"
    transfer_weight: NonNegativeFloat
    """Of attention transfer, spatial and by channel each (alpha of the paper)."""
    feature_weight: NonNegativeFloat
    """Of masked features (beta)."""
    nonlocal_weight: NonNegativeFloat
    """Of non-local relations (gamma)."""
    temperature: PositiveFloat
    """Of the masks' softmax; they approach ones as it grows."""
    channel_mask: bool
    """Whether features are masked by channel too; the two-stage code does not."""
    levels: PositiveInt | None = None
    """How many levels of the neck, from the finest; None for all."""
    windows: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (8, 4, 2)
    """Cells along a side of the windows that the non-local blocks' phi and g are pooled over, by
    level, finest first; levels after the last have the last value. Copies of the published code
    have 8, 4, 2, 2, 2. The block that mmrazor 90c7af1f builds on (mmcv's ``NonLocal2d``) pools
    over 2 cells before, so its windows are 16, 8, 4, 4. Form ``code`` alone pools."""
    images_per_group: PositiveInt | None = 2
    """Number of images over which a norm and a block's batch normalization are taken; the terms
    of the groups are then averaged. 2 is the number on a GPU in mmdet's configurations, which the
    published code follows; None for the whole batch."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """Put the numbers of the form and kind where none, or None, is given."""
        if not isinstance(values, dict):
            return values
        given = {k: v for k, v in values.items() if v is not None or k not in FILLED}
        named = str(given.get("form", "code")), str(given.get("kind", "one_stage"))
        return (
            dict(zip(FILLED, NUMBERS.get(named, NUMBERS["code", "one_stage"]), strict=True)) | given
        )

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"neck"}))

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        return {"kind": "two_stage" if two_stage else "one_stage"}

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return, by level, the layers of the terms that are on, some of the teacher's side."""
        found: dict[str, nn.Module] = {}
        strides = student.strides or range(len(student.neck))
        for rank, level in enumerate(self._chosen(strides)):
            narrow, wide = student.neck[level], teacher.neck[level]
            layers = self._layers(wide, rank)
            if narrow != wide:
                layers["align"] = nn.Conv2d(narrow, wide, 1)
            found |= {f"{name}{level}": layer for name, layer in layers.items()}
        return found

    def _layers(self, width: int, rank: int) -> dict[str, nn.Module]:
        from kd.methods.ops.nonlocal_block import NonLocalBlock

        code, layers = self.form == "code", dict[str, "nn.Module"]()
        if self.nonlocal_weight:
            share, window = (each[min(rank, len(each) - 1)] for each in (SHARES, self.windows))
            inner, pool = max(width // share, 1), window if code else 1
            for side in ("student", "teacher"):
                layers[side] = NonLocalBlock(width, inner, pool, residual=code)
        if code and self.nonlocal_weight:
            layers["relation"] = nn.Conv2d(width, width, 1)
        if code and self.feature_weight:
            layers["feature"] = nn.Conv2d(width, width, 1)
        if code and self.transfer_weight:
            layers["channel"] = nn.Linear(width, width)
            layers["spatial"] = nn.Conv2d(1, 1, 3, padding=1)
        return layers

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return what is on of ``loss_fkd_channel``, ``_spatial``, ``_feature``, ``_nonlocal``."""
        losses: dict[str, list[Tensor]] = {}
        for level in self._chosen(student.strides):
            terms = self._terms(student.neck[level], teacher.neck[level], adapters, level)
            for name, value in terms.items():
                losses.setdefault(f"loss_fkd_{name}", []).append(value)
        return dict(losses)

    def _chosen(self, strides: Sequence[int]) -> list[int]:
        """Return which levels of the neck are compared, finest first."""
        return sorted(range(len(strides)), key=strides.__getitem__)[: self.levels]

    def _terms(
        self, student: Tensor, teacher: Tensor, adapters: nn.ModuleDict, level: int
    ) -> dict[str, Tensor]:
        """Return the weighted terms of one level's maps (B, C, H, W)."""

        def adapted(name: str, value: Tensor) -> Tensor:
            key = f"{name}{level}"
            return adapters[key](value) if key in adapters else value

        terms = {}
        student, teacher = full_precision(student), full_precision(teacher.detach())
        student = adapted("align", student)
        if self.transfer_weight:
            found, wanted = (m.abs() if self.form == "paper" else m for m in (student, teacher))
            channel = adapted("channel", found.mean((2, 3))), wanted.mean((2, 3))
            spatial = adapted("spatial", found.mean(1, keepdim=True)), wanted.mean(1, keepdim=True)
            terms["channel"] = self.transfer_weight * distance(*channel)
            terms["spatial"] = self.transfer_weight * distance(*spatial)
        if self.feature_weight:
            pair, mask = (adapted("feature", student), teacher), self._mask(student, teacher)
            terms["feature"] = self.feature_weight * distance(*pair, mask)
        if self.nonlocal_weight:
            pair = adapted("relation", adapted("student", student)), adapted("teacher", teacher)
            terms["nonlocal"] = self.nonlocal_weight * distance(*pair)
        return terms

    def _mask(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return (B, C or 1, H, W)."""
        mask = self._attention_mask(spatial_attention, student, teacher)[:, None]
        if self.channel_mask:
            channels = self._attention_mask(channel_attention, student, teacher)
            mask = mask * channels[:, :, None, None]
        return mask

    def _attention_mask(
        self, attention: Callable[[Tensor], Tensor], student: Tensor, teacher: Tensor
    ) -> Tensor:
        found, wanted = attention(student.detach()), attention(teacher)
        return attention_mask(found, wanted, self.temperature, self.form == "paper")

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the spatial mask at each level."""
        found = {}
        for level in self._chosen(student.strides):
            maps = (full_precision(model.neck[level][:1]) for model in (student, teacher))
            mask = self._attention_mask(spatial_attention, *maps)
            found[f"stride {student.strides[level]}"] = mask[0]
        return Focus(found)


def spatial_attention(maps: Tensor) -> Tensor:
    """Return G^s (B, H, W), the mean magnitude over channels of maps (B, C, H, W)."""
    return maps.abs().mean(1)


def channel_attention(maps: Tensor) -> Tensor:
    """Return G^c (B, C), the mean magnitude over the cells of maps (B, C, H, W)."""
    return maps.abs().mean((2, 3))


def attention_mask(student: Tensor, teacher: Tensor, temperature: float, summed: bool) -> Tensor:
    """Return M (B, ...), of mean 1 in each image, from attentions (B, ...).

    A softmax over an image's places, of the sum of both attentions (the paper), or the mean of
    both softmaxes (the code).
    """
    found, wanted = ((each / temperature).flatten(1) for each in (student, teacher))
    mean = (found.softmax(1) + wanted.softmax(1)) / 2
    mask = (found + wanted).softmax(1) if summed else mean
    return mask.view_as(student) * mask.shape[1]


def distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the L2 norm of a difference (B, ...), its squares times the mask.

    Over the batches of all processes, or the images of a group.
    """
    square = (student - teacher).square()
    square = square if mask is None else square * mask
    return (shared_sum(square.sum()) + EPSILON).sqrt()
