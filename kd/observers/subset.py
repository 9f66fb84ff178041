"""Observations of some images of a batch, cut out of the observation of all of them."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kd.common.modules import LazyModule
from kd.observers.base import Candidates
from kd.observers.two_stage import TwoStageObservation

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


class Part:
    """Some images of ``whole``: slices of its maps and its assignment, with their gradients.

    A map that ``whole`` has not computed yet is computed for all images, once.
    """

    def __init__(self, whole: Any, images: slice) -> None:
        batch = whole.batch.part(images)
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
        return tuple([maps[self.images] for maps in kind] for kind in self.whole.outputs)

    @cached_property
    def class_outputs(self) -> list[Tensor]:
        return [maps[self.images] for maps in self.whole.class_outputs]

    @cached_property
    def box_outputs(self) -> list[Tensor]:
        return [maps[self.images] for maps in self.whole.box_outputs]

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


def part_of(whole: Any, images: slice) -> Any:
    """Return the observation of some images; a student's is cut after its losses were computed."""
    from kd.observers import OBSERVERS

    kind: Any = OBSERVERS[whole.detector.observer]
    part = _part_class(kind)(whole, images)
    if isinstance(part, TwoStageObservation) and "candidates" in vars(whole):
        _cut_regions(part, whole, images)
    return part


@functools.cache
def _part_class(kind: Any) -> Any:
    return type(f"Part{kind.__name__}", (Part, kind), {})


def _cut_regions(part: Any, whole: Any, images: slice) -> None:
    """Give a part its sampled RoIs, and the outputs that its second stage has for them."""
    sampled: Candidates = whole.candidates
    assert sampled.rois is not None
    first, stop, _ = images.indices(len(whole.batch.samples))
    rows = ((sampled.image >= first) & (sampled.image < stop)).nonzero().flatten()
    rois = sampled.rois[rows]
    rois = torch.cat([rois[:, :1] - first, rois[:, 1:]], 1)
    chosen = sampled[rows]
    offset = whole.batch.gt_offsets[first]
    instance = torch.where(chosen.instance >= 0, chosen.instance - offset, chosen.instance)
    part.candidates = replace(
        chosen,
        image=chosen.image - first,
        index=torch.arange(len(rows), device=rows.device),
        instance=instance,
        rois=rois,
    )
    outputs = whole.region_outputs(sampled.rois)
    part.add_region_outputs(rois, {name: value[rows] for name, value in outputs.items()})
