"""Which prior makes each object's final box, and how two detectors rank an object's priors."""

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

from analysis.figures.networks import Probe, images
from kd.common.errors import UserError
from kd.methods.ops.boxes import aligned_iou
from kd.methods.rm import rank_divergence
from kd.observers import Batch, DenseObservation, observe
from kd.observers.recording import wrapped

Rank = Literal["classification", "localization"]
LEAST_IOU = 0.5
"""Of a final box with the object that it is the detection of."""


class Detections(NamedTuple):
    """D final boxes of an image, as mmdet's ``predict`` returns them."""

    boxes: Tensor
    """(D, 4), xyxy in pixels of the network's input."""
    scores: Tensor
    labels: Tensor
    prior: Tensor
    """(D,): which of the observation's priors each box was regressed from."""


class Comparison(NamedTuple):
    """How alike two detectors rank an object's positive priors; NaN where undefined."""

    kl: float
    """KL(p^T || p^S), p a softmax over the priors (RM, equations 5 and 6)."""
    top1: float
    """1 where both have the same prior first, else 0."""
    rho: float
    """Spearman's rank correlation, tied priors with their mean rank."""


@dataclass(frozen=True)
class Ranking:
    """What one detector makes of the G objects of an image."""

    prior: Tensor
    """(G,): the prior of each object's final box, -1 without one."""
    iou: Tensor
    """(G,): of that box with the object, NaN without one."""
    scores: list[Tensor]
    """G of (N,): of the object's positive priors."""


@dataclass(frozen=True)
class RankedImage:
    """An image's G objects as the teacher and each student rank them, on the CPU.

    Boxes are xyxy in pixels of the image as it was annotated.
    """

    path: str
    boxes: Tensor
    labels: Tensor
    positives: list[Tensor]
    """G of (N,): the object's positive priors."""
    anchors: list[Tensor]
    """G of (N, 4): their boxes; a point has two equal corners."""
    levels: list[tuple[int, int, int]]
    """Rows, columns and anchors a cell of each level."""
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
    """Yield how runs rank the priors of each object, image by image of the test split.

    UserError where a student's priors are not its teacher's.
    """
    probes = [Probe.load(directory) for directory in (teacher, *students)]
    for sample in images(students[0], count, seed, what="ranked"):
        with torch.no_grad():
            yield _ranked(probes, sample, rank)


def _ranked(probes: list[Probe], sample: dict[str, Any], rank: Rank) -> RankedImage:
    first, *others = probes
    batch = first.batch(sample)
    wanted = observe(first.detector, batch, frozen=True)
    # Which priors are positive depends on priors and objects alone, so it holds for all.
    wanted.losses()
    positives = positives_of(wanted)
    rankings = [ranking(wanted, batch, positives, rank)]
    for probe in others:
        own = probe.batch(sample)
        found = observe(probe.detector, own, frozen=True)
        _check_priors(found, wanted, probe.directory, first.directory)
        rankings.append(ranking(found, own, positives, rank))
    meta = batch.samples[0].metainfo
    scale = batch.gt_boxes[0].new_tensor(meta["scale_factor"]).repeat(2)
    return RankedImage(
        path=meta["img_path"],
        boxes=(batch.gt_boxes[0] / scale).cpu(),
        labels=batch.gt_labels[0].cpu(),
        positives=[chosen.cpu() for chosen in positives],
        anchors=[(wanted.priors[chosen] / scale).cpu() for chosen in positives],
        levels=_levels(wanted),
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
    """Return what a detector makes of the objects of a batch's first image."""
    boxes, labels = batch.gt_boxes[0], batch.gt_labels[0]
    found, *_ = detections(observation)
    prior, iou = final_boxes(found, boxes, labels)
    scores = [
        _scores(observation, chosen, box, int(label), rank).cpu()
        for chosen, box, label in zip(positives, boxes, labels, strict=True)
    ]
    return Ranking(prior.cpu(), iou.cpu(), scores)


def _scores(
    observation: DenseObservation, prior: Tensor, box: Tensor, label: int, rank: Rank
) -> Tensor:
    """Return what RM ranks an object's positive priors by, (N,) from 0 to 1."""
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


def final_boxes(found: Detections, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the prior (-1: none) and IoU (NaN) of the detection of each object, both (G,).

    It is that of the object's class with the highest IoU, of at least 0.5.
    """
    if not len(found.boxes):
        return labels.new_full((len(labels),), -1), boxes.new_full((len(labels),), torch.nan)
    ious = box_iou(boxes, found.boxes).where(labels[:, None] == found.labels, 0)
    highest, place = ious.max(1)
    missed = highest < LEAST_IOU
    return found.prior[place].masked_fill(missed, -1), highest.masked_fill(missed, torch.nan)


def detections(observation: DenseObservation) -> list[Detections]:
    """Return each image's final boxes with their priors, before any scaling to the file's pixels.

    They are those of the head's own ``predict_by_feat``, which loses the priors.
    """
    metas = [sample.metainfo for sample in observation.batch.samples]
    with _keeping_priors(observation.head), torch.no_grad():
        results = observation.head.predict_by_feat(
            *observation.outputs, batch_img_metas=metas, rescale=False
        )
    return [Detections(each.bboxes, each.scores, each.labels, each.prior) for each in results]


@contextmanager
def _keeping_priors(head: Any) -> Iterator[None]:
    """Let a head's results carry ``prior``, which mmdet then filters as it does the boxes.

    mmdet (3.3.0) looks for candidates level by level with a function that also returns their
    indices; what it makes of them passes through ``_bbox_post_process`` once an image.
    """
    names, name = type(head)._predict_by_feat_single.__globals__, "filter_scores_and_topk"
    original = names[name]
    kept: list[Tensor] = []
    passed = 0

    def filtered(scores: Tensor, *args: Any) -> Any:
        nonlocal passed
        result = original(scores, *args)
        kept.append(result[2] + passed)
        passed += len(scores)
        return result

    def joining(method: Any) -> Any:
        def processed(results: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal passed
            results.prior = torch.cat(kept)
            kept.clear()
            passed = 0
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


def _check_priors(
    student: DenseObservation, teacher: DenseObservation, directory: Path, taught_by: Path
) -> None:
    if not torch.equal(student.priors, teacher.priors):
        raise UserError(f"{directory}: its priors are not those of its teacher {taught_by}")
