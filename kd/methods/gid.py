"""GID: regions where teacher and student disagree most (Dai et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.boxes import shares_inside
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.masks import level_of
from kd.methods.ops.pyramid import SECOND_PER_STRIDE, LevelSides, octaves, published_sides, sides_of
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
    from torchvision import ops

    from kd.methods.ops.pyramid import Pyramid
    from kd.observers import Batch, Channels, DenseObservation
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")
    nn = LazyModule("torch.nn")
    ops = LazyModule("torchvision.ops")

CONSIDERED = 3000
"""Priors of an image, best first, that go into non-maximum suppression (author's code)."""
CELLS, SAMPLES = 10, 2
"""Cells along a side of a pooled region, and samples along a side of each (author's code)."""
LEAST_SIDE = 10.0
"""Pixels that a side of a region exceeds in images of the published size (author's code)."""
SEMI, NEGATIVE = 0.7, 0.3
"""Share of a region's area inside an object: at least in a semi-positive one, and what a negative
one stays below (author's code)."""


class GeneralInstanceDistillation(Method):
    """Features, relations and responses of the general instances.

    The defaults are the paper's equations with the weights of the author's rewrite
    (daixinghome/Distill_GID_detectron2 9118c542), whose accuracy was never aligned with the
    original. Preset ``gid_rewrite`` equals that code in values and gradients on RetinaNet's
    anchors. The defaults differ from it in ``score``, ``norm``, ``relation_over`` and ``adapter``.
    The paper's sum over pairs is their mean here as in the rewrite, or a weight of 40 would drown
    the detection loss. On Faster R-CNN scores, boxes and responses are the RPN's. Features need a
    pyramid of one width, since regions of different levels are compared.
    """

    title = "GID"
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
    """Weight of classes in the response."""
    beta: NonNegativeFloat = 1.0
    """Weight of boxes in the response."""
    instances: Literal["all", "positive", "semi_positive", "negative", "truth"] = "all"
    """Among which priors regions are selected: those with an object; of the others those whose box
    lies in an object by at least 0.7 of its area, or by less than 0.3. The rewrite has these kinds
    too, but takes them out of the K regions, which leaves fewer. ``truth``: ground-truth boxes."""
    count: PositiveInt = 10
    """Regions per image, K."""
    overlap: PositiveFloat = 0.3
    """IoU above which the lower score of two regions is left out."""
    least_side: NonNegativeFloat | Literal["scaled"] = "scaled"
    """Pixels; a region with a side that is no longer is left out. ``scaled``: the rewrite's 10, by
    the image size in whole octaves, which is 10 at the papers' scale
    (``kd.methods.ops.pyramid``)."""
    score: Literal["difference", "maxima"] = "difference"
    """The largest difference of a class, or the difference of the largest (rewrite)."""
    norm: Literal["euclidean", "squared"] = "euclidean"
    """Of a region's feature difference; squared it is divided by the number of cells (rewrite)."""
    relation_over: Literal["image", "batch"] = "image"
    """Among which regions distances are compared; the rewrite takes all of a process."""
    adapter: Literal["always", "where_widths_differ"] = "always"
    """When a 3x3 convolution, shared over levels, is put on the student's maps; the rewrite makes
    one and never applies it."""
    level_sides: LevelSides = "scaled"
    """Sides of a square region, in pixels, at which the second level begins, the third, and so on.
    ``published``: 28 strides of the finest level and its doubles, so that a square of 224 pixels
    belongs to stride 16 (FPN's rule, and that of the author's code). ``scaled``: these by the image
    size, in whole octaves, which is ``published`` at the papers' scale
    (``kd.methods.ops.pyramid``)."""
    anchor_iou: PositiveFloat = 0.5
    """IoU of an anchor with a region from which it responds, RetinaNet's own for positive anchors;
    a point responds inside a region."""
    best_anchors: bool = True
    """Let the anchors of the highest IoU with a region respond too, however low that IoU is. The
    paper assigns regions as the detector assigns objects, and RetinaNet's assigner has such
    low-quality matches, in mmdet as in the rewrite (``anchor_matcher`` of detectron2)."""

    @property
    def assigns_levels(self) -> bool:
        return self._pooled

    @property
    def needs(self) -> Needs:
        read = {"neck", "pyramid"} if self._pooled else set()
        read |= {"priors"} if self._responding or self.instances != "truth" else set()
        return Needs(both=frozenset(read))

    @property
    def _pooled(self) -> bool:
        return bool(self.feature or self.relation)

    @property
    def _responding(self) -> bool:
        return bool(self.response and (self.alpha or self.beta))

    def fitted(self, pyramid: Pyramid) -> Self:
        """Return the settings with the sides of levels and of the smallest region in pixels."""
        own = super().fitted(pyramid)
        if own.least_side != "scaled":
            return own
        least = LEAST_SIDE * 2.0 ** octaves(pyramid.image_size)
        return own.model_copy(update={"least_side": least})

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a 3x3 convolution for all levels; the student's widths are equal."""
        narrow, wide = student.neck[0], teacher.neck[0]
        if not self._pooled or (self.adapter != "always" and narrow == wide):
            return {}
        return {"shared": nn.Conv2d(narrow, wide, 3, padding=1)}

    def losses(
        self,
        student: DenseObservation,
        teacher: DenseObservation,
        batch: Batch,
        adapters: nn.ModuleDict,
    ) -> Losses:
        """Return ``loss_gid_feature``, ``_relation``, ``_cls`` and ``_reg``, scalars."""
        regions = self.general_instances(student, teacher, batch)
        rois = join(regions)
        losses: Losses = {}
        if self._pooled:
            wanted, found = self._pool(student, teacher, rois, adapters)
            if self.feature:
                losses["loss_gid_feature"] = self.feature * feature_loss(wanted, found, self.norm)
            if self.relation:
                whole = self.relation_over == "batch"
                sizes = [len(rois)] if whole else [len(boxes) for boxes in regions]
                terms = map(relation_loss, wanted.split(sizes), found.split(sizes))
                total = torch.stack(list(terms)).sum()
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
        found, wanted = student.probabilities.detach(), teacher.probabilities
        # One image at a time: a difference per class takes as much memory as the classes.
        pairs = zip(wanted, found, strict=True)
        _, prior = torch.stack([gi_score(*pair, self.score) for pair in pairs]).topk(
            min(CONSIDERED, found.shape[1])
        )
        rows = torch.arange(len(prior), device=prior.device).repeat_interleave(prior.shape[1])
        at = rows, prior.flatten()
        surer = wanted[at].amax(1, keepdim=True) > found[at].amax(1, keepdim=True)
        boxes = torch.where(surer, teacher.boxes(*at), student.boxes(*at).detach())
        boxes = boxes.unflatten(0, prior.shape)
        sizes = [sample.img_shape[:2] for sample in batch.samples]
        inside = [inside_image(own, *size) for own, size in zip(boxes, sizes, strict=True)]
        boxes = torch.stack(inside)
        least = LEAST_SIDE if self.least_side == "scaled" else self.least_side
        kept = (boxes[..., 2:] - boxes[..., :2] > least).all(2)
        if self.instances != "all":
            assert student.assignment is not None
            positive = student.assignment.gather(1, prior) >= 0
            images = zip(boxes, positive, batch.gt_boxes, strict=True)
            kept &= torch.stack([instance_kinds(*image)[self.instances] for image in images])
        chosen, counts = suppressed(boxes, kept, self.overlap, self.count)
        return [own[:count] for own, count in zip(chosen, counts.tolist(), strict=True)]

    def _pool(
        self, student: DenseObservation, teacher: DenseObservation, rois: Tensor, adapters: Any
    ) -> list[Tensor]:
        """Return (R, C, 10, 10) of the teacher's maps, and of the student's as adapted."""
        found = [full_precision(level) for level in student.neck]
        if "shared" in adapters:
            found = [adapters["shared"](level) for level in found]
        wanted = [full_precision(level.detach()) for level in teacher.neck]
        return pool([wanted, found], student.strides, rois, sides_of(self.level_sides))

    def _response(
        self, student: DenseObservation, teacher: DenseObservation, regions: list[Tensor]
    ) -> Losses:
        rule = self.anchor_iou, self.best_anchors
        mask = torch.stack([responding(student.priors, boxes, *rule) for boxes in regions])
        at = mask.nonzero(as_tuple=True)
        count = shared_count(len(at[0]))
        losses: Losses = {}
        if self.alpha:
            pair = teacher.logits[at], student.logits[at]
            total = class_response(*pair, student.softmax).sum()
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


def inside_image(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return boxes (N, 4), xyxy in pixels, without what lies beyond an image before padding."""
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], -1).flatten(-2)


def instance_kinds(boxes: Tensor, positive: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Return by name which of R boxes (R, 4) are of that kind, (R,) each; some are of none.

    ``positive``: (R,), whether the prior has an object; ``truth``: (G, 4).
    """
    none = boxes.new_zeros(len(boxes), 1)
    share = torch.cat([none, shares_inside(boxes, truth)], 1).amax(1)
    return {
        "positive": positive,
        "semi_positive": ~positive & (share >= SEMI),
        "negative": ~positive & (share < NEGATIVE),
    }


def suppressed(boxes: Tensor, kept: Tensor, overlap: float, count: int) -> tuple[Tensor, Tensor]:
    """Return the first ``count`` boxes (B, count, 4) of each image that no better one overlaps.

    ``boxes``: (B, N, 4), best first; ``kept``: (B, N), which there are. Non-maximum suppression as
    torchvision's, which compares all pairs, for all images. And how many (B,) there are.
    """
    x1, y1, x2, y2 = boxes.unbind(2)
    area = (x2 - x1) * (y2 - y1)
    rows = torch.arange(len(boxes), device=boxes.device)
    chosen, found = [], []
    for _ in range(min(count, boxes.shape[1])):
        best = kept.int().argmax(1)
        own, there = boxes[rows, best], kept[rows, best]
        left, top, right, bottom = own[..., None].unbind(1)
        across = torch.minimum(x2, right) - torch.maximum(x1, left)
        down = torch.minimum(y2, bottom) - torch.maximum(y1, top)
        common = across.clamp(min=0) * down.clamp(min=0)
        iou = common / (area[rows, best][:, None] + area - common)
        kept = kept & ~(iou > overlap)
        kept[rows, best] = False
        chosen.append(own)
        found.append(there)
    return torch.stack(chosen, 1), torch.stack(found, 1).sum(1)


def join(regions: list[Tensor]) -> Tensor:
    """Return RoIs (R, 5), image and xyxy, from boxes of each image."""
    rows = [F.pad(boxes, (1, 0), value=image) for image, boxes in enumerate(regions)]
    return torch.cat(rows)


def pool(
    models: list[list[Tensor]],
    strides: list[int],
    rois: Tensor,
    sides: Sequence[float] | None = None,
) -> list[Tensor]:
    """Return RoIAlign features (R, C, 10, 10) of each model's maps by level.

    Each region's come from the level that fits its size, by ``sides``: those at which the second
    level begins, the third, and so on, or None for the published ones.
    """
    order = sorted(range(len(strides)), key=strides.__getitem__)
    if sides is None:
        sides = published_sides(len(order), SECOND_PER_STRIDE * min(strides))
    own = level_of(rois[:, 1:], len(order), sides, added=0)
    ranks = torch.arange(len(order), device=own.device)[:, None]
    counts = (own == ranks).sum(1).tolist()
    by_level = own.argsort(stable=True)
    back = by_level.argsort()
    parts = list(zip(order, rois[by_level].split(counts), strict=True))
    return [
        torch.cat(
            [
                ops.roi_align(maps[level], part, CELLS, 1 / strides[level], SAMPLES, True)
                for level, part in parts
            ]
        )[back]
        for maps in models
    ]


def feature_loss(teacher: Tensor, student: Tensor, norm: str) -> Tensor:
    """Return the mean over regions (R, C, H, W) of ||t - s||, or of its square over H W; else 0."""
    difference = (teacher - student).flatten(1)
    if norm == "euclidean":
        each = difference.norm(dim=1)
    else:
        each = difference.square().sum(1) / teacher.shape[2:].numel()
    return each.sum() / shared_count(len(each))


def relation_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean smooth L1 of distances between regions (R, ...), over pairs; 0 without any.

    Each side's are divided by their mean, so two regions always agree: as well as the rewrite, this
    asks for three.
    """
    wanted, found = (relative_distances(each.flatten(1)) for each in (teacher.detach(), student))
    return F.smooth_l1_loss(found, wanted, reduction="sum") / max(len(found), 1)


def relative_distances(features: Tensor) -> Tensor:
    """Return Euclidean distances of all pairs of (R, D), (12), (13), ..., over their mean."""
    # torch 2.11 crashes in the backward pass of pdist without rows.
    distances = torch.pdist(features) if len(features) > 1 else features[:0].sum(1)
    return distances / (distances.sum() / max(len(distances), 1)).clamp(min=1e-12)


def responding(priors: Tensor, regions: Tensor, iou: float, best: bool = True) -> Tensor:
    """Return M (N,): which priors (N, 4) respond in regions (R, 4), both xyxy in pixels.

    An anchor responds by its IoU with a region. ``best``: or because no anchor has a higher IoU
    with that region, ties included. A point (equal corners) responds if it lies inside a region.
    """
    after, before = priors[:, None, :2] > regions[:, :2], priors[:, None, 2:] < regions[:, 2:]
    inside = (after & before).all(2).any(1)
    overlaps = ops.box_iou(priors, regions)
    matched = overlaps >= iou
    if best and len(priors):
        matched = matched | ((overlaps == overlaps.amax(0)) & (overlaps > 0))
    return torch.where((priors[:, :2] == priors[:, 2:]).all(1), inside, matched.any(1))


def class_response(teacher: Tensor, student: Tensor, softmax: bool) -> Tensor:
    """Return (M,) cross entropies of logits (M, K), summed over classes that have a sigmoid."""
    teacher = teacher.detach()
    if softmax:
        return F.cross_entropy(student, teacher.softmax(1), reduction="none")
    targets = teacher.sigmoid()
    return F.binary_cross_entropy_with_logits(student, targets, reduction="none").sum(1)
