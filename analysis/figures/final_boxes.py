"""Final boxes of an image, the prior that each was regressed from, and those of its objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from kd.common.errors import UserError
from kd.observers import DenseObservation
from kd.observers.recording import wrapped

LEAST_IOU = 0.5
"""Smallest IoU of a final box with its object."""


class PriorLevel(NamedTuple):
    """Cells of a level of priors, and the anchors of each cell."""

    rows: int
    columns: int
    anchors: int

    @property
    def size(self) -> int:
        """Number of priors."""
        return self.rows * self.columns * self.anchors


class FinalBoxes(NamedTuple):
    """Final boxes (D,) of an image, as mmdet's ``predict`` returns them."""

    boxes: Tensor
    """(D, 4), xyxy in pixels of the network's input."""
    scores: Tensor
    labels: Tensor
    prior: Tensor
    """(D,): index of the prior that each box was regressed from, in the observation's priors."""


class ObjectBoxes(NamedTuple):
    """Final boxes of an image's G objects; an object without one has prior -1, and NaN elsewhere.

    The final box of an object is the detection of its class with the highest IoU, of at least 0.5.
    """

    prior: Tensor
    """(G,): prior that each box was regressed from."""
    iou: Tensor
    """(G,): IoU of the box with the object."""
    boxes: Tensor
    """(G, 4), xyxy in the pixels of the final boxes."""
    scores: Tensor
    """(G,)"""


def boxes_of_objects(final_boxes: FinalBoxes, boxes: Tensor, labels: Tensor) -> ObjectBoxes:
    """Return the final boxes of objects, given by their ``boxes`` (G, 4) and ``labels`` (G,)."""
    objects = len(labels)
    if not len(final_boxes.boxes):
        none = boxes.new_full((objects,), torch.nan)
        return ObjectBoxes(labels.new_full((objects,), -1), none, boxes * torch.nan, none)
    ious = box_iou(boxes, final_boxes.boxes).where(labels[:, None] == final_boxes.labels, 0)
    highest, place = ious.max(1)
    missed = highest < LEAST_IOU
    return ObjectBoxes(
        final_boxes.prior[place].masked_fill(missed, -1),
        highest.masked_fill(missed, torch.nan),
        final_boxes.boxes[place].masked_fill(missed[:, None], torch.nan),
        final_boxes.scores[place].masked_fill(missed, torch.nan),
    )


def final_boxes_of(observation: DenseObservation) -> list[FinalBoxes]:
    """Return each image's final boxes with their priors, in pixels of the network's input.

    The boxes are those of the head's ``predict_by_feat``, which does not return the priors.
    """
    metas = [sample.metainfo for sample in observation.batch.samples]
    with _prior_tracking(observation.head), torch.no_grad():
        results = observation.head.predict_by_feat(
            *observation.outputs, batch_img_metas=metas, rescale=False
        )
    return [
        FinalBoxes(result.bboxes, result.scores, result.labels, result.prior) for result in results
    ]


@contextmanager
def _prior_tracking(head: Any) -> Iterator[None]:
    """Add ``prior`` to a head's results, which mmdet then filters with the boxes.

    mmdet (3.3.0) selects candidates level by level with a function that also returns their
    indices. ``_bbox_post_process`` then receives the candidates of all levels, once for each image.
    """
    names, name = type(head)._predict_by_feat_single.__globals__, "filter_scores_and_topk"
    original = names[name]
    level_priors: list[Tensor] = []
    previous_priors = 0

    def filtered(scores: Tensor, *args: Any) -> Any:
        nonlocal previous_priors
        result = original(scores, *args)
        level_priors.append(result[2] + previous_priors)
        previous_priors += len(scores)
        return result

    def joining(method: Any) -> Any:
        def processed(results: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal previous_priors
            results.prior = torch.cat(level_priors)
            level_priors.clear()
            previous_priors = 0
            return method(results, *args, **kwargs)

        return processed

    names[name] = filtered
    try:
        with wrapped(head, "_bbox_post_process", joining):
            yield
    finally:
        names[name] = original


def check_priors(
    student: DenseObservation, teacher: DenseObservation, student_run: Path, teacher_run: Path
) -> None:
    """Raise a UserError if the priors of a student are not those of its teacher."""
    if not torch.equal(student.priors, teacher.priors):
        raise UserError(f"{student_run}: its priors are not those of its teacher {teacher_run}")


def prior_levels(observation: DenseObservation) -> list[PriorLevel]:
    """Return the sizes of all levels of priors, in their order."""
    sizes = [maps.shape[-2:] for maps in observation.outputs[0]]
    return [
        PriorLevel(rows, columns, len(priors) // (rows * columns))
        for (rows, columns), priors in zip(sizes, observation.level_priors, strict=True)
    ]


def prior_name(prior: int, levels: Sequence[PriorLevel]) -> str:
    """Return a prior's ``level:row:column:anchor``; empty for none (-1)."""
    for number, level in enumerate(levels):
        if 0 <= prior < level.size:
            cell, anchor = divmod(prior, level.anchors)
            return f"{number}:{cell // level.columns}:{cell % level.columns}:{anchor}"
        prior -= level.size
    return ""
