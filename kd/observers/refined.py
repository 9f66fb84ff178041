"""Observations of heads that refine their boxes or assign labels by their own outputs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from kd.common.modules import LazyModule
from kd.observers.base import plain
from kd.observers.dense import CenterObservation, DenseObservation
from kd.observers.recording import aligned_assignment, class_assignment, refined_assignment

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


class StarObservation(CenterObservation):
    """Observation of VFNet: the refined distances from a point to the sides.

    The priors are the anchors around the points, to which ATSS assigns labels.
    """

    @cached_property
    def box_outputs(self) -> list[Tensor]:
        """Refined box maps, which follow the initial ones in training and are alone in eval."""
        return list(self.outputs[-1])

    @cached_property
    def level_priors(self) -> list[Tensor]:
        generator, device = self.head.atss_prior_generator, self.batch.inputs.device
        return [plain(level) for level in generator.grid_priors(self.sizes, device=device)]

    def _codes(self, raw: Tensor, prior: Tensor) -> Tensor:
        return raw / self.prior_strides[prior, None]


class SeparateObservation(DenseObservation):
    """Observation of DDOD, which assigns labels to anchors for classes and for boxes apart.

    The assignment is that of classes, also where a box is read: of the boxes of these anchors, the
    detection loss trains those that the other assignment has, too.
    """

    recording = staticmethod(class_assignment)


class BoxObservation(CenterObservation):
    """Observation of heads whose boxes need not contain the center of their prior.

    The distance to a side is negative if the center lies beyond the side.
    """

    def encode(self, boxes: Tensor, prior: Tensor) -> Tensor:
        centers = self._centers(prior)
        distances = torch.cat([centers - boxes[:, :2], boxes[:, 2:] - centers], 1)
        return distances / self.prior_strides[prior, None]

    def _decode(self, codes: Tensor, prior: Tensor) -> Tensor:
        centers, distances = self._centers(prior), codes * self.prior_strides[prior, None]
        return torch.cat([centers - distances[:, :2], centers + distances[:, 2:]], 1)


class AlignedObservation(BoxObservation):
    """Observation of TOOD, whose outputs are probabilities and boxes.

    A score is the geometric mean of two probabilities. Its logit takes the place of the class
    output. A box is sampled among those of neighboring cells.
    """

    recording = staticmethod(aligned_assignment)

    @cached_property
    def class_maps(self) -> list[Tensor]:
        """Per level (B, C, H, W): the logits of the scores."""
        return [maps.float().logit(torch.finfo(torch.float).eps) for maps in self.class_outputs]

    def _codes(self, raw: Tensor, prior: Tensor) -> Tensor:
        return self.encode(raw * self.prior_strides[prior, None], prior)


class PointSetObservation(BoxObservation):
    """Observation of RepPoints: the boxes of the refined points, and the labels for them.

    Labels are assigned to the boxes of the initial points.
    """

    recording = staticmethod(refined_assignment)

    @cached_property
    def box_outputs(self) -> list[Tensor]:
        """Per level (B, 4, H, W): corners in strides from the prior, computed from the points.

        The head returns points in training, in eval mode boxes.
        """
        with self.gradients():
            maps = self.outputs[-1]
            return [self.head.points2bbox(level) for level in maps] if self.head.training else maps

    @cached_property
    def level_priors(self) -> list[Tensor]:
        # (x, y) becomes (x, y, x, y), a box without area.
        return [points.repeat(1, 2) for points in super().level_priors]

    def _codes(self, raw: Tensor, prior: Tensor) -> Tensor:
        return torch.cat([-raw[:, :2], raw[:, 2:]], 1)
