"""What every distillation method is: frozen settings and a function to named losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeFloat

from kd.settings.base import Part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.observation import Batch, Observation

Losses = dict[str, "Tensor | list[Tensor]"]


class Method(Part):
    """A method's settings, and its losses as a function of two observations.

    ``reads`` names what it takes from an observation (a subset of kd.observation.OBSERVABLE's
    values); a detector that does not offer it is refused when the plan is made. Losses come back
    weighted, one tensor per term or a list with one per pyramid level.
    """

    reads: ClassVar[frozenset[str]]
    weight: NonNegativeFloat

    def adapters(self, student: list[int], teacher: list[int]) -> dict[str, nn.Module]:
        """Return the learned layers it needs, given the neck channels by level of both models."""
        return {}

    def losses(
        self,
        student: Observation,
        teacher: Observation,
        batch: Batch,
        adapters: nn.ModuleDict,
    ) -> Losses:
        """Return the weighted terms by name."""
        raise NotImplementedError
