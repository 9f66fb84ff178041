"""Prior of each object's final box, and ranks of an object's positive priors in two detectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from scipy.stats import spearmanr
from torch import Tensor

from analysis.figures.final_boxes import (
    PriorLevel,
    boxes_of_objects,
    check_priors,
    final_boxes_of,
    prior_levels,
)
from analysis.figures.networks import RunNetworks, annotated_images
from kd.methods.ops.boxes import aligned_iou
from kd.methods.predictions.rm import rank_divergence
from kd.observers import Batch, DenseObservation, observe

Rank = Literal["classification", "localization"]


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
    levels: list[PriorLevel]
    teacher: Ranking
    students: list[Ranking]


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
        check_priors(student_output, teacher_output, student.directory, teacher.directory)
        rankings.append(ranking(student_output, student_batch, positives, rank))
    meta = batch.samples[0].metainfo
    scale = batch.gt_boxes[0].new_tensor(meta["scale_factor"]).repeat(2)
    return RankedImage(
        path=meta["img_path"],
        boxes=(batch.gt_boxes[0] / scale).cpu(),
        labels=batch.gt_labels[0].cpu(),
        positives=[priors.cpu() for priors in positives],
        anchors=[(teacher_output.priors[priors] / scale).cpu() for priors in positives],
        levels=prior_levels(teacher_output),
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
    final = boxes_of_objects(final_boxes, boxes, labels)
    scores = [
        _scores(observation, priors, box, int(label), rank).cpu()
        for priors, box, label in zip(positives, boxes, labels, strict=True)
    ]
    return Ranking(final.prior.cpu(), final.iou.cpu(), scores)


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
