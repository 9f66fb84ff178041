"""Prior of each object's final box, and ranks of an object's positive priors in two detectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torchvision.ops import box_iou

from analysis.figures.networks import RunNetworks, annotated_images
from kd.common.errors import UserError
from kd.methods.ops.boxes import aligned_iou
from kd.methods.rm import rank_divergence
from kd.observers import Batch, DenseObservation, observe
from kd.observers.recording import wrapped

Rank = Literal["classification", "localization"]
LEAST_IOU = 0.5
"""Smallest IoU of a final box with its object."""


class FinalBoxes(NamedTuple):
    """Final boxes (D,) of an image, as mmdet's ``predict`` returns them."""

    boxes: Tensor
    """(D, 4), xyxy in pixels of the network's input."""
    scores: Tensor
    labels: Tensor
    prior: Tensor
    """(D,): index of the prior that each box was regressed from, in the observation's priors."""


class Comparison(NamedTuple):
    """Similarity of two detectors' ranks of an object's positive priors; NaN if undefined."""

    kl: float
    """KL(p^T || p^S), p a softmax over the priors (RM, equations 5 and 6)."""
    top1: float
    """1 if both rank the same prior first, else 0."""
    rho: float
    """Spearman's rank correlation, tied priors with their mean rank."""


@dataclass(frozen=True)
class Ranking:
    """Final boxes and scores of one detector for the G objects of an image."""

    prior: Tensor
    """(G,): prior of each object's final box, -1 without one."""
    iou: Tensor
    """(G,): IoU of that box with the object, NaN without one."""
    scores: list[Tensor]
    """G of (N,): scores of each object's positive priors."""


@dataclass(frozen=True)
class RankedImage:
    """Rankings of an image's G objects by the teacher and each student, on the CPU.

    Boxes are xyxy in pixels of the image file.
    """

    path: str
    boxes: Tensor
    labels: Tensor
    positives: list[Tensor]
    """G of (N,): indices of each object's positive priors."""
    anchors: list[Tensor]
    """G of (N, 4): boxes of these priors; a point has two equal corners."""
    levels: list[tuple[int, int, int]]
    """Rows, columns and anchors per cell of each level."""
    teacher: Ranking
    students: list[Ranking]

    def place(self, prior: int) -> str:
        """Return a prior's ``level:row:column:anchor``; empty for none (-1)."""
        for level, (rows, columns, anchors) in enumerate(self.levels):
            if 0 <= prior < rows * columns * anchors:
                cell, anchor = divmod(prior, anchors)
                return f"{level}:{cell // columns}:{cell % columns}:{anchor}"
            prior -= rows * columns * anchors
        return ""


def ranked_images(
    teacher: Path, students: Sequence[Path], count: int | None, seed: int, rank: Rank
) -> Iterator[RankedImage]:
    """Yield the rankings of all runs for each image of a sample of the test split.

    UserError if the priors of a student are not those of its teacher.
    """
    runs = [RunNetworks.load(directory) for directory in (teacher, *students)]
    for sample in annotated_images(students[0], count, seed, name="ranked"):
        with torch.no_grad():
            yield _rank_image(runs, sample, rank)


def _rank_image(runs: list[RunNetworks], sample: dict[str, Any], rank: Rank) -> RankedImage:
    teacher, *students = runs
    batch = teacher.batch(sample)
    teacher_output = observe(teacher.detector, batch, frozen=True)
    # Computing the losses assigns the priors. The assignment depends on priors and objects alone,
    # so that it holds for the students as well.
    teacher_output.losses()
    positives = positives_of(teacher_output)
    rankings = [ranking(teacher_output, batch, positives, rank)]
    for student in students:
        student_batch = student.batch(sample)
        student_output = observe(student.detector, student_batch, frozen=True)
        if not torch.equal(student_output.priors, teacher_output.priors):
            raise UserError(
                f"{student.directory}: its priors are not those of its teacher {teacher.directory}"
            )
        rankings.append(ranking(student_output, student_batch, positives, rank))
    meta = batch.samples[0].metainfo
    scale = batch.gt_boxes[0].new_tensor(meta["scale_factor"]).repeat(2)
    return RankedImage(
        path=meta["img_path"],
        boxes=(batch.gt_boxes[0] / scale).cpu(),
        labels=batch.gt_labels[0].cpu(),
        positives=[priors.cpu() for priors in positives],
        anchors=[(teacher_output.priors[priors] / scale).cpu() for priors in positives],
        levels=_levels(teacher_output),
        teacher=rankings[0],
        students=rankings[1:],
    )


def positives_of(observation: DenseObservation) -> list[Tensor]:
    """Return the positive priors (N,) of each object of the first image."""
    assert observation.assignment is not None
    objects = range(len(observation.batch.gt_labels[0]))
    return [(observation.assignment[0] == index).nonzero().flatten() for index in objects]


def ranking(
    observation: DenseObservation, batch: Batch, positives: list[Tensor], rank: Rank
) -> Ranking:
    """Return the final boxes and prior scores of the objects of a batch's first image."""
    boxes, labels = batch.gt_boxes[0], batch.gt_labels[0]
    final_boxes, *_ = final_boxes_of(observation)
    prior, iou = boxes_of_objects(final_boxes, boxes, labels)
    scores = [
        _scores(observation, priors, box, int(label), rank).cpu()
        for priors, box, label in zip(positives, boxes, labels, strict=True)
    ]
    return Ranking(prior.cpu(), iou.cpu(), scores)


def _scores(
    observation: DenseObservation, prior: Tensor, box: Tensor, label: int, rank: Rank
) -> Tensor:
    """Return the scores by which RM ranks an object's positive priors, (N,) from 0 to 1."""
    if rank == "classification":
        return observation.probabilities[0, prior, label].double()
    decoded = observation.boxes(torch.zeros_like(prior), prior)
    return aligned_iou(decoded, box.expand_as(decoded)).double()


def compare(teacher: Tensor, student: Tensor) -> Comparison:
    """Compare the scores (N,) of one object's positive priors; all NaN below two priors."""
    if len(teacher) < 2:
        return Comparison(*[float("nan")] * 3)
    alone = torch.zeros_like(teacher, dtype=torch.long)
    constant = any(bool((scores == scores[0]).all()) for scores in (teacher, student))
    return Comparison(
        kl=float(rank_divergence(teacher, student, alone, 1)),
        top1=float(teacher.argmax() == student.argmax()),
        rho=float("nan") if constant else float(spearmanr(teacher, student).statistic),
    )


def boxes_of_objects(
    final_boxes: FinalBoxes, boxes: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the prior (or -1) and the IoU (or NaN) of each object's final box, both (G,).

    The final box is the detection of the object's class with the highest IoU, of at least 0.5.
    """
    if not len(final_boxes.boxes):
        return labels.new_full((len(labels),), -1), boxes.new_full((len(labels),), torch.nan)
    ious = box_iou(boxes, final_boxes.boxes).where(labels[:, None] == final_boxes.labels, 0)
    highest, place = ious.max(1)
    missed = highest < LEAST_IOU
    return final_boxes.prior[place].masked_fill(missed, -1), highest.masked_fill(missed, torch.nan)


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


def _levels(observation: DenseObservation) -> list[tuple[int, int, int]]:
    sizes = [maps.shape[-2:] for maps in observation.outputs[0]]
    return [
        (rows, columns, len(priors) // (rows * columns))
        for (rows, columns), priors in zip(sizes, observation.level_priors, strict=True)
    ]
