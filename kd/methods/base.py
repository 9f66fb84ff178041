"""What every distillation method is: frozen settings and a function to named losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, PositiveInt

from kd.common.schema import Part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.methods.ops.pyramid import LevelSides, Pyramid
    from kd.observers import Batch, Channels, Progress

Losses = dict[str, "Tensor | list[Tensor]"]
DETECTION = "detection"
"""In records of gradients the student's own losses, all in one, beside the terms of methods."""


@dataclass(frozen=True)
class Needs:
    """What a method learns from, and what it reads of it: keys of kd.observers.OBSERVABLE."""

    both: frozenset[str] = frozenset()
    """Read of the teacher and of the student, row for row."""
    student: frozenset[str] = frozenset()
    """Read of the student alone."""
    teacher: Literal["detector", "classifier"] | None = "detector"


@dataclass(frozen=True)
class Focus:
    """Where a method looks in the first image of a batch, by name, to be drawn."""

    maps: dict[str, Tensor] = field(default_factory=dict)
    """(H, W) over the padded image: masks, attention, differences."""
    boxes: dict[str, Tensor] = field(default_factory=dict)
    """(n, 4), xyxy in pixels."""
    crops: dict[str, Tensor] = field(default_factory=dict)
    """(n, 3, s, s), normalised as the images are."""


class Method(Part):
    """A method's settings, and its losses as a function of student and teacher.

    A detector that does not offer what the method needs is refused when the plan is made. Losses
    come back weighted, one tensor per term or a list with one per pyramid level.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    title: ClassVar[str]
    """Its name in tables."""
    version: ClassVar[int] = 1
    """Raise it when the same settings compute other losses: the runs of the method are then new."""
    weights: ClassVar[Mapping[str, str]] = {}
    """The setting that weighs each term, by the term's name, for messages."""
    sides_per_stride: ClassVar[bool] = False
    """Read the setting ``level_sides``, of a method that has it, in strides of the finest level."""

    images_per_group: PositiveInt | None = None
    """Number of consecutive images whose losses are computed together; the mean over groups is
    trained on. None: all images of a step, in all processes, are one group, so that a result does
    not depend on the number of processes. Published code counts objects and cells on each GPU,
    mostly of 2 images: 2 restores its losses. A group lies in one process; a process with fewer
    images is one group."""

    @property
    def needs(self) -> Needs:
        """What it takes with these settings."""
        raise NotImplementedError

    def reads(self, progress: Progress) -> frozenset[str]:
        """Return what it reads of the teacher in a step: keys of kd.observers.OBSERVABLE."""
        return self.needs.both

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        """Return settings that depend on the kind of detector, over the fields' defaults."""
        return {}

    @property
    def assigns_levels(self) -> bool:
        """Return whether boxes are assigned to levels, by a setting ``level_sides``."""
        return False

    def fitted(self, pyramid: Pyramid) -> Self:
        """Return the settings with those resolved that depend on levels and image size."""
        if not self.assigns_levels:
            return self
        rule: LevelSides = self.level_sides  # type: ignore[attr-defined]
        sides = pyramid.sides(rule, self.sides_per_stride)
        return self.model_copy(update={"level_sides": sides})

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return the learned layers it needs, given the widths of both detectors' maps."""
        return {}

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return the weighted terms by name.

        ``student``: its kd.observers.Observation, after its own losses were computed;
        ``teacher``: an observation, a kd.classifiers.teacher.ClassifierTeacher, or None, as
        ``needs`` says. ``kd.training.image_groups`` calls it for a batch, or for each group of
        images.
        """
        raise NotImplementedError

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return where it looks in the first image; arguments as for ``losses``."""
        return Focus()
