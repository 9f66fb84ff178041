"""GID: distillation of the regions with the largest score difference (Dai et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.boxes import clip, rois_of, shares_inside, suppress_overlaps
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.masks import level_of
from kd.methods.ops.pyramid import (
    SECOND_LEVEL_STRIDES,
    LevelSides,
    octaves,
    published_sides,
    sides_of,
)
from kd.methods.ops.reduction import mean_over, shared_count

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.methods.ops.pyramid import Pyramid
    from kd.observers import Batch, Channels, DenseObservation
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")
    nn = LazyModule("torch.nn")

NMS_CANDIDATES = 3000
"""Priors of an image, best first, that enter non-maximum suppression (author's code)."""
POOLED_CELLS, SAMPLES_PER_CELL = 10, 2
"""Cells along a side of a pooled region, and samples along a side of a cell (author's code)."""
LEAST_SIDE = 10.0
"""Length in pixels that both sides of a region exceed at the published image size (author's code).
"""
SEMI_POSITIVE_SHARE, NEGATIVE_SHARE = 0.7, 0.3
"""Share of a region's area inside an object: the least of a semi-positive region, and the upper
limit of a negative one (author's code)."""


class GeneralInstanceDistillation(Method):
    """Features, relations and outputs of the regions where both models disagree.

    Loss: the norm of the difference of pooled features, averaged over regions; the smooth L1
    difference of the relative distances between regions, averaged over pairs; and the difference of
    class and box outputs, averaged over the priors that respond in a region. Regions (general
    instances) are the boxes of the priors with the largest difference of class scores, after
    non-maximum suppression.

    Code: the author's rewrite (daixinghome/Distill_GID_detectron2 9118c542), whose accuracy was
    never aligned with the original. Preset ``gid_rewrite`` equals it in values and gradients on
    RetinaNet's anchors. The defaults are the paper's equations with the rewrite's weights. They
    differ from it in ``score``, ``norm``, ``relation_over`` and ``adapter``.

    Here: the paper's sum over pairs is their mean, as in the rewrite; with the sum, a weight of 40
    would exceed the detection loss by far. On Faster R-CNN, scores, boxes and responses are the
    RPN's. Features need a pyramid of one width, since regions of different levels are compared.

    Unknown: whether the rewrite's weights are the paper's; the adapter (``adapter``), here a 3x3
    convolution; and the assigner's rule for regions (``best_anchors``), here RetinaNet's, so that a
    region's best anchors respond too.
    """

    title = "GID"
    cite = "dai2021general"
    version = 2
    weights: ClassVar = {
        "loss_gid_feature": "feature",
        "loss_gid_relation": "relation",
        "loss_gid_cls": "alpha",
        "loss_gid_reg": "beta",
    }
    sides_per_stride = True

    feature: NonNegativeFloat = 5e-4
    """Weight of the feature term, lambda_1."""
    relation: NonNegativeFloat = 40.0
    """Weight of the relation term, lambda_2."""
    response: NonNegativeFloat = 1.0
    """Weight of the response term, lambda_3."""
    alpha: NonNegativeFloat = 0.1
    """Weight of class outputs in the response term."""
    beta: NonNegativeFloat = 1.0
    """Weight of box outputs in the response term."""
    instances: Literal["all", "positive", "semi_positive", "negative", "truth"] = "all"
    """Priors among which regions are selected. ``positive``: those with an object; of the others,
    ``semi_positive`` are those whose box lies in an object by at least 0.7 of its area, and
    ``negative`` those by less than 0.3. The rewrite has these kinds too, but takes them out of the
    K regions, which leaves fewer. ``truth``: ground-truth boxes."""
    count: PositiveInt = 10
    """K, the number of regions per image."""
    overlap: PositiveFloat = 0.3
    """IoU of two regions above which the one with the lower score is suppressed."""
    least_side: NonNegativeFloat | Literal["scaled"] = "scaled"
    """Length in pixels that both sides of a region must exceed. ``scaled``: the rewrite's 10,
    scaled to the image size in whole octaves; it is 10 at scale ``paper``
    (``kd.methods.ops.pyramid``)."""
    score: Literal["difference", "maxima"] = "difference"
    """Score of a prior: the largest difference of a class, or the difference of the largest class
    probabilities (rewrite)."""
    norm: Literal["euclidean", "squared"] = "euclidean"
    """Norm of a region's feature difference. ``squared`` is divided by the number of cells
    (rewrite)."""
    relation_over: Literal["image", "batch"] = "image"
    """Regions whose distances are compared: those of an image, or all of a process (rewrite)."""
    adapter: Literal["always", "where_widths_differ"] = "always"
    """Use of a 3x3 convolution, shared by all levels, on the student's maps. The rewrite creates
    one and never applies it."""
    level_sides: LevelSides = "scaled"
    """Sides of a square region, in pixels, at which the second level begins, the third, and so on.
    ``published``: 28 strides of the finest level and its doubles, so that a square of 224 pixels
    belongs to stride 16 (FPN's rule, and that of the author's code). ``scaled``: the published
    sides, scaled to the image size in whole octaves; at scale ``paper`` they equal ``published``
    (``kd.methods.ops.pyramid``)."""
    anchor_iou: PositiveFloat = 0.5
    """IoU of an anchor with a region from which the anchor responds. RetinaNet's assigner has the
    same value for positive anchors. A point responds inside a region."""
    best_anchors: bool = True
    """If true, the anchors of the highest IoU with a region respond too, however low that IoU is.
    The paper assigns regions as the detector assigns objects, and RetinaNet's assigner has such
    low-quality matches, in mmdet as in the rewrite (``anchor_matcher`` of detectron2)."""

    @property
    def assigns_levels(self) -> bool:
        return self._pooled

    @property
    def needs(self) -> Needs:
        keys = {"neck", "pyramid"} if self._pooled else set()
        keys |= {"priors"} if self._responding or self.instances != "truth" else set()
        return Needs(both=frozenset(keys))

    @property
    def _pooled(self) -> bool:
        """True if a term reads pooled features."""
        return bool(self.feature or self.relation)

    @property
    def _responding(self) -> bool:
        """True if the response term has a weight."""
        return bool(self.response and (self.alpha or self.beta))

    def fitted(self, pyramid: Pyramid) -> Self:
        """Return the settings with the sides of levels and of the smallest region in pixels."""
        settings = super().fitted(pyramid)
        if settings.least_side != "scaled":
            return settings
        least_side = LEAST_SIDE * 2.0 ** octaves(pyramid.image_size)
        return settings.model_copy(update={"least_side": least_side})

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return ``shared``, a 3x3 convolution for all levels; the student's widths are equal."""
        student_channels, teacher_channels = student.neck[0], teacher.neck[0]
        needed = self.adapter == "always" or student_channels != teacher_channels
        if not self._pooled or not needed:
            return {}
        return {"shared": nn.Conv2d(student_channels, teacher_channels, 3, padding=1)}

    def losses(
        self,
        student: DenseObservation,
        teacher: DenseObservation,
        batch: Batch,
        adapters: nn.ModuleDict,
    ) -> Losses:
        """Return ``loss_gid_feature``, ``_relation``, ``_cls`` and ``_reg``, scalars."""
        regions = self.general_instances(student, teacher, batch)
        rois = rois_of(regions)
        losses: Losses = {}
        if self._pooled:
            teacher_features, student_features = self._pool(student, teacher, rois, adapters)
            if self.feature:
                distance = feature_loss(teacher_features, student_features, self.norm)
                losses["loss_gid_feature"] = self.feature * distance
            if self.relation:
                over_batch = self.relation_over == "batch"
                sizes = [len(rois)] if over_batch else [len(boxes) for boxes in regions]
                pairs = zip(
                    teacher_features.split(sizes), student_features.split(sizes), strict=True
                )
                total = torch.stack([relation_loss(*pair) for pair in pairs]).sum()
                losses["loss_gid_relation"] = self.relation * total / shared_count(len(sizes))
        if self._responding:
            losses |= self._response(student, teacher, regions)
        return losses

    def general_instances(
        self, student: DenseObservation, teacher: DenseObservation, batch: Batch
    ) -> list[Tensor]:
        """Return, per image, boxes (R, 4), xyxy in pixels, best first and without gradients."""
        if self.instances == "truth":
            return batch.gt_boxes
        student_scores, teacher_scores = student.probabilities.detach(), teacher.probabilities
        # One image at a time: a difference per class takes as much memory as the classes.
        pairs = zip(teacher_scores, student_scores, strict=True)
        _, prior = torch.stack([gi_score(*pair, self.score) for pair in pairs]).topk(
            min(NMS_CANDIDATES, student_scores.shape[1])
        )
        # Index pairs (image, prior) of the best priors, one image after another.
        rows = torch.arange(len(prior), device=prior.device).repeat_interleave(prior.shape[1])
        at = rows, prior.flatten()
        # The box is that of the model with the higher class probability.
        teacher_best, student_best = (
            scores[at].amax(1, keepdim=True) for scores in (teacher_scores, student_scores)
        )
        boxes = torch.where(
            teacher_best > student_best, teacher.boxes(*at), student.boxes(*at).detach()
        )
        boxes = boxes.unflatten(0, prior.shape)
        sizes = [sample.img_shape[:2] for sample in batch.samples]
        pairs = zip(boxes, sizes, strict=True)
        boxes = torch.stack([clip(image_boxes, *size) for image_boxes, size in pairs])
        least_side = LEAST_SIDE if self.least_side == "scaled" else self.least_side
        eligible = (boxes[..., 2:] - boxes[..., :2] > least_side).all(2)
        if self.instances != "all":
            assert student.assignment is not None
            positive = student.assignment.gather(1, prior) >= 0
            images = zip(boxes, positive, batch.gt_boxes, strict=True)
            eligible &= torch.stack([instance_kinds(*image)[self.instances] for image in images])
        regions, counts = suppress_overlaps(boxes, eligible, self.overlap, self.count)
        return [image[:count] for image, count in zip(regions, counts.tolist(), strict=True)]

    def _pool(
        self, student: DenseObservation, teacher: DenseObservation, rois: Tensor, adapters: Any
    ) -> list[Tensor]:
        """Return features (R, C, 10, 10) of the teacher's and of the student's adapted maps."""
        student_maps = [full_precision(level) for level in student.neck]
        if "shared" in adapters:
            student_maps = [adapters["shared"](level) for level in student_maps]
        teacher_maps = [full_precision(level.detach()) for level in teacher.neck]
        sides = sides_of(self.level_sides)
        return pool([teacher_maps, student_maps], student.strides, rois, sides)

    def _response(
        self, student: DenseObservation, teacher: DenseObservation, regions: list[Tensor]
    ) -> Losses:
        """Return the class and box terms, means over the priors that respond."""
        rule = self.anchor_iou, self.best_anchors
        mask = torch.stack([responding_priors(student.priors, boxes, *rule) for boxes in regions])
        at = mask.nonzero(as_tuple=True)
        count = shared_count(len(at[0]))
        losses: Losses = {}
        if self.alpha:
            logits = teacher.logits[at], student.logits[at]
            total = class_response(*logits, student.softmax).sum()
            losses["loss_gid_cls"] = self.response * self.alpha * total / count
        if self.beta:
            total = (student.codes(*at) - teacher.codes(*at).detach()).abs().sum()
            losses["loss_gid_reg"] = self.response * self.beta * total / count
        return losses

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the general instances."""
        regions = self.general_instances(student, teacher, batch)
        return Focus(boxes={"general instances": regions[0]})


def gi_score(teacher: Tensor, student: Tensor, kind: str) -> Tensor:
    """Return P_GI (N,) from probabilities (N, C): max_c |P_t - P_s|, or |max_c P_t - max_c P_s|."""
    if kind == "difference":
        return (teacher - student).abs().amax(1)
    return (teacher.amax(1) - student.amax(1)).abs()


def instance_kinds(boxes: Tensor, positive: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Return, by kind, the mask (R,) of the boxes (R, 4) of that kind; some boxes have no kind.

    ``positive``: (R,), true if the prior has an object; ``truth``: (G, 4).
    """
    none = boxes.new_zeros(len(boxes), 1)
    share = torch.cat([none, shares_inside(boxes, truth)], 1).amax(1)
    return {
        "positive": positive,
        "semi_positive": ~positive & (share >= SEMI_POSITIVE_SHARE),
        "negative": ~positive & (share < NEGATIVE_SHARE),
    }


def pool(
    models: list[list[Tensor]],
    strides: list[int],
    rois: Tensor,
    sides: Sequence[float] | None = None,
) -> list[Tensor]:
    """Return RoIAlign features (R, C, 10, 10) of the maps by level of each model.

    A region is pooled from the level that fits its size, by ``sides``: those at which the second
    level begins, the third, and so on, or None for the published ones.
    """
    from mmcv.ops import roi_align

    finest_first = sorted(range(len(strides)), key=strides.__getitem__)
    if sides is None:
        sides = published_sides(len(strides), SECOND_LEVEL_STRIDES * min(strides))
    rank = level_of(rois[:, 1:], len(strides), sides, added=0)
    ranks = torch.arange(len(strides), device=rank.device)[:, None]
    counts = (rank == ranks).sum(1).tolist()
    # Sorted by level, each level is pooled once; ``original_order`` undoes the sorting.
    by_level = rank.argsort(stable=True)
    original_order = by_level.argsort()
    cells = (POOLED_CELLS, POOLED_CELLS)
    level_rois = list(zip(finest_first, rois[by_level].split(counts), strict=True))
    return [
        torch.cat(
            [
                roi_align(
                    maps[level], part, cells, 1 / strides[level], SAMPLES_PER_CELL, "avg", True
                )
                for level, part in level_rois
            ]
        )[original_order]
        for maps in models
    ]


def feature_loss(teacher: Tensor, student: Tensor, norm: str) -> Tensor:
    """Return the mean over regions (R, C, H, W) of ||t - s||, or of ||t - s||^2 / (H W).

    It is 0 without regions.
    """
    difference = (teacher - student).flatten(1)
    if norm == "euclidean":
        norms = difference.norm(dim=1)
    else:
        norms = difference.square().sum(1) / teacher.shape[2:].numel()
    return mean_over(norms)


def relation_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean smooth L1 of distances between regions (R, ...), over pairs; 0 without any.

    The distances of each model are divided by their mean, so that two regions always agree. The
    loss therefore needs three regions, as the rewrite's does.
    """
    # Each model's distances are relative to their mean, so its scale of features does not matter.
    teacher_distances, student_distances = (
        relative_distances(features.flatten(1)) for features in (teacher.detach(), student)
    )
    total = F.smooth_l1_loss(student_distances, teacher_distances, reduction="sum")
    return total / max(len(student_distances), 1)


def relative_distances(features: Tensor) -> Tensor:
    """Return Euclidean distances of all pairs of (R, D), (12), (13), ..., over their mean."""
    # torch 2.11 crashes in the backward pass of pdist without rows.
    distances = torch.pdist(features) if len(features) > 1 else features[:0].sum(1)
    return distances / (distances.sum() / max(len(distances), 1)).clamp(min=1e-12)


def responding_priors(priors: Tensor, regions: Tensor, iou: float, best: bool = True) -> Tensor:
    """Return M (N,): true for priors (N, 4) that respond in regions (R, 4), xyxy in pixels.

    An anchor responds if its IoU with a region is at least ``iou``. With ``best`` it also responds
    if no anchor has a higher IoU with that region, ties included. A point (equal corners) responds
    if it lies inside a region.
    """
    # Regions come first, so that each operator reads coordinates of priors that lie side by side.
    x1, y1, x2, y2 = priors.T.contiguous()
    left, top, right, bottom = regions.T[..., None]
    width = torch.minimum(x2, right) - torch.maximum(x1, left)
    height = torch.minimum(y2, bottom) - torch.maximum(y1, top)
    overlap = width.clamp(min=0) * height.clamp(min=0)
    areas = (x2 - x1) * (y2 - y1), (right - left) * (bottom - top)
    iou_by_prior = overlap / (areas[0] + areas[1] - overlap)
    matched = iou_by_prior >= iou
    if best and len(priors):
        matched |= (iou_by_prior == iou_by_prior.amax(1, keepdim=True)) & (iou_by_prior > 0)
    # A point has no area. It lies inside a region whose sides it is within.
    inside = (x1 > left) & (x1 < right) & (y1 > top) & (y1 < bottom)
    is_point = (x1 == x2) & (y1 == y2)
    return torch.where(is_point, inside.any(0), matched.any(0))


def class_response(teacher: Tensor, student: Tensor, softmax: bool) -> Tensor:
    """Return (M,) cross-entropies of logits (M, K); those of sigmoids are summed over classes."""
    teacher = teacher.detach()
    if softmax:
        return F.cross_entropy(student, teacher.softmax(1), reduction="none")
    targets = teacher.sigmoid()
    return F.binary_cross_entropy_with_logits(student, targets, reduction="none").sum(1)
