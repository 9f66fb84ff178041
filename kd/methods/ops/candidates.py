"""Labels, selection and boxes of candidates: the priors or RoIs that a detector classifies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kd.observers import Batch, Candidates
else:
    torch = LazyModule("torch")


def labels_of(candidates: Candidates, batch: Batch, background: int) -> Tensor:
    """Return the class (P,) of each candidate's object, or ``background`` without an object."""
    labels = torch.full_like(candidates.index, background)
    labels[candidates.instance >= 0] = candidates.positive.labels(batch)
    return labels


def classified_correctly(
    candidates: Candidates, logits: Tensor, batch: Batch, background: int
) -> Candidates:
    """Return the candidates whose highest logit (P, K) is that of their label.

    ``background``: the output for background, or -1 if the head has none.
    """
    return candidates[logits.argmax(1) == labels_of(candidates, batch, background)]


def roi_boxes(candidates: Candidates) -> Tensor:
    """Return the boxes (P, 4), xyxy in pixels, of candidates of a second stage."""
    assert candidates.rois is not None
    return candidates.rois[candidates.index, 1:]
