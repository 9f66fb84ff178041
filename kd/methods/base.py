"""Base class of distillation methods: frozen settings, and named losses as their function."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_serializer, model_validator
from pydantic.functional_serializers import SerializerFunctionWrapHandler

from kd.common.schema import Part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.methods.ops.pyramid import LevelSides, Pyramid
    from kd.observers import Batch, Channels, Progress

Losses = dict[str, "Tensor | list[Tensor]"]
"""Weighted terms by name: a scalar, or a list with one scalar per pyramid level."""
DETECTION_TERM = "detection"
"""Name of the student's detection losses, as one sum, in records of the terms' gradients."""


@dataclass(frozen=True)
class Needs:
    """Requirements of a method: its kind of teacher, and keys of kd.observers.OBSERVABLE."""

    both: frozenset[str] = frozenset()
    """Keys read from both teacher and student, row for row."""
    student: frozenset[str] = frozenset()
    """Keys read from the student alone."""
    of_teacher: frozenset[str] = frozenset()
    """Keys read from the teacher alone."""
    teacher: Literal["detector", "classifier"] | None = "detector"
    """Kind of teacher; None for a method without one."""


@dataclass(frozen=True)
class Focus:
    """Cells, boxes and crops of the first image that a method uses, by name, for figures."""

    maps: dict[str, Tensor] = field(default_factory=dict)
    """(H, W) each, stretched over the padded image: masks, attention, differences."""
    boxes: dict[str, Tensor] = field(default_factory=dict)
    """(n, 4), xyxy in pixels."""
    crops: dict[str, Tensor] = field(default_factory=dict)
    """(n, 3, s, s), normalized like the images."""
    quantity: str = ""
    """Name of the values of ``maps``, for their color scale."""


def by_stride(strides: Iterable[int], maps: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return maps by the names ``stride 8``, ``stride 16``, ..., for ``Focus.maps``."""
    return {f"stride {stride}": level for stride, level in zip(strides, maps, strict=True)}


class Method(Part):
    """Settings of a distillation method, and its losses as a function of student and teacher.

    The planner refuses a detector that does not offer what the method needs. Losses are returned
    weighted: one tensor per term, or a list with one tensor per pyramid level.
    """

    title: ClassVar[str]
    """Name of the method in tables."""
    cite: ClassVar[str] = ""
    """Key of the method's paper in ``configs/published/references.bib``; empty without a paper."""
    version: ClassVar[int] = 1
    """Version of the losses. Raise it when the same settings compute other losses, so that the
    method's runs get new digests."""
    weights: ClassVar[Mapping[str, str]] = {}
    """The setting that weighs each term, by the term's name, for messages."""
    sides_per_stride: ClassVar[bool] = False
    """If true, the published ``level_sides`` are in strides of the finest level, not in pixels."""

    across_pyramids: ClassVar[bool] = False
    """If true, the method compares levels of equal stride (``ops.levels.shared_levels``), so that
    teacher and student may have different pyramids."""
    unset_keys: ClassVar[Mapping[str, Any]] = {
        "start": "own",
        "from_epoch": None,
        "until_epoch": None,
    }
    """Settings that a composed configuration lacks while they have these values. Configurations of
    earlier versions lack them, and their digests stay valid."""

    start: Literal["own", "inherit"] = "own"
    """Initial weights of the student. ``own``: those of the student alone; ``inherit``: its neck
    and head start from the teacher's where names and shapes agree (FGD)."""
    from_epoch: NonNegativeInt | None = None
    """Number of epochs before the term begins; None: it begins at once. Epochs are those of the
    schedule that the table names. A stand-in schedule keeps their share of the training."""
    until_epoch: PositiveInt | None = None
    """Number of epochs after which the term ends; None: it lasts for the whole training. Epochs are
    counted as for ``from_epoch``. The teacher does not run when no term needs it."""
    images_per_group: PositiveInt | None = None
    """Number of consecutive images whose losses are computed together; the term is the mean over
    groups. None: all images of a step, in all processes, form one group, so that results do not
    depend on the number of processes. Published code counts objects and cells on each GPU,
    mostly of 2 images; the value 2 restores its losses. A group lies in one process; a process with
    fewer images is one group."""

    @model_serializer(mode="wrap")
    def _without_unset_keys(self, settings_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        settings: dict[str, Any] = settings_of(self)
        return {
            key: value
            for key, value in settings.items()
            if key not in self.unset_keys or value != self.unset_keys[key]
        }

    @model_validator(mode="after")
    def _epochs_rise(self) -> Self:
        if self.until_epoch is not None and (self.from_epoch or 0) >= self.until_epoch:
            raise ValueError(
                f"key 'from_epoch' is {self.from_epoch}, so the term would end before it begins; "
                f"set it below 'until_epoch', which is {self.until_epoch}"
            )
        return self

    @property
    def needs(self) -> Needs:
        """Requirements of the method with these settings."""
        raise NotImplementedError

    def is_active(self, progress: Progress) -> bool:
        """Return True if the term is computed in the present epoch of a training."""
        last = math.inf if self.until_epoch is None else self.until_epoch
        return (self.from_epoch or 0) <= progress.epoch < last

    @property
    def term_names(self) -> list[str]:
        """Names of the terms whose weight is not 0, which the log has as 0 in other epochs."""
        names = [name for name, setting in self.weights.items() if getattr(self, setting) != 0]
        return names or [*self.weights]

    def reads(self, progress: Progress) -> frozenset[str]:
        """Return the keys of kd.observers.OBSERVABLE read from the teacher in a step."""
        return self.needs.both | self.needs.of_teacher

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        """Return the defaults that depend on the kind of detector; they override the fields'."""
        return {}

    @property
    def assigns_levels(self) -> bool:
        """True if the setting ``level_sides`` assigns boxes to levels."""
        return False

    def fitted(self, pyramid: Pyramid) -> Self:
        """Return a copy in which settings that depend on levels and image size are resolved."""
        if not self.assigns_levels:
            return self
        rule: LevelSides = self.level_sides  # type: ignore[attr-defined]
        sides = pyramid.sides(rule, self.sides_per_stride)
        return self.model_copy(update={"level_sides": sides})

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return the learned layers by name, given the channel counts of both detectors' maps."""
        return {}

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return the weighted terms by name.

        ``student``: a kd.observers.Observation whose detection losses were computed; ``teacher``:
        an observation, a kd.classifiers.teacher.ClassifierTeacher or None, by ``needs.teacher``.
        ``kd.training.image_groups`` calls this method for a batch, or for each group of images.
        """
        raise NotImplementedError

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the cells, boxes and crops used in the first image; arguments as in ``losses``."""
        return Focus()
