"""Observation of a subset of a batch's images, cut out of the observation of all images."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kd.common.modules import LazyModule
from kd.observers.base import Candidates
from kd.observers.towers import Towers
from kd.observers.two_stage import TwoStageObservation

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


class _Subset:
    """Mixin that slices the maps and the assignment of ``whole``, with their gradients.

    A map that ``whole`` has not computed yet is computed once, for all images.
    """

    def __init__(self, whole: Any, images: slice) -> None:
        batch = whole.batch.subset(images)
        super().__init__(whole.detector, batch, frozen=whole.frozen)  # type: ignore[call-arg]
        self.whole, self.images, self.precision = whole, images, whole.precision
        if whole.assignment is not None:
            self.assignment, self.sampled = whole.assignment[images], whole.sampled[images]

    @cached_property
    def stages(self) -> list[Tensor]:
        return [maps[self.images] for maps in self.whole.stages]

    @cached_property
    def neck(self) -> list[Tensor]:
        return [maps[self.images] for maps in self.whole.neck]

    @cached_property
    def outputs(self) -> tuple[list[Tensor], ...]:
        return tuple([maps[self.images] for maps in levels] for levels in self.whole.outputs)

    @cached_property
    def class_outputs(self) -> list[Tensor]:
        return [maps[self.images] for maps in self.whole.class_outputs]

    @cached_property
    def box_outputs(self) -> list[Tensor]:
        return [maps[self.images] for maps in self.whole.box_outputs]

    @cached_property
    def towers(self) -> Towers:
        branches = (
            [[maps[self.images] for maps in levels] for levels in branch]
            for branch in self.whole.towers
        )
        return Towers(*branches)

    @cached_property
    def proposals(self) -> list[Tensor]:
        return self.whole.proposals[self.images]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return self.whole.sizes

    @property
    def level_priors(self) -> list[Tensor]:
        return self.whole.level_priors

    @property
    def priors(self) -> Tensor:
        return self.whole.priors

    @property
    def prior_strides(self) -> Tensor:
        return self.whole.prior_strides


def subset_of(whole: Any, images: slice) -> Any:
    """Return the observation of some images; call it after a student's losses."""
    from kd.observers import OBSERVERS

    observation_class: Any = OBSERVERS[whole.detector.observer]
    subset = _subset_class(observation_class)(whole, images)
    if isinstance(subset, TwoStageObservation) and "candidates" in vars(whole):
        _cut_rois(subset, whole, images)
    return subset


@functools.cache
def _subset_class(observation_class: Any) -> Any:
    return type(f"Subset{observation_class.__name__}", (_Subset, observation_class), {})


def _cut_rois(subset: Any, whole: Any, images: slice) -> None:
    """Set the sampled RoIs of a subset, and the outputs of the second stage on them."""
    sampled: Candidates = whole.candidates
    assert sampled.rois is not None
    first, stop, _ = images.indices(len(whole.batch.samples))
    rows = ((sampled.image >= first) & (sampled.image < stop)).nonzero().flatten()
    rois = sampled.rois[rows]
    # Images and objects are numbered from 0 within the subset.
    rois = torch.cat([rois[:, :1] - first, rois[:, 1:]], 1)
    candidates = sampled[rows]
    offset = whole.batch.gt_offsets[first]
    instance = candidates.instance
    subset.candidates = replace(
        candidates,
        image=candidates.image - first,
        index=torch.arange(len(rows), device=rows.device),
        instance=torch.where(instance >= 0, instance - offset, instance),
        rois=rois,
    )
    outputs = whole.region_outputs(sampled.rois)
    subset.add_region_outputs(rois, {name: value[rows] for name, value in outputs.items()})
