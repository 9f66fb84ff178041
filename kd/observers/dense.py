"""Observations of heads that predict at every prior: a class map and a box map per neck level."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from kd.common.modules import LazyModule
from kd.observers.base import Candidates, Observation, plain
from kd.observers.recording import anchor_assignment, grid_assignment, point_assignment

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kd.observers.towers import Towers
else:
    torch = LazyModule("torch")


class DenseObservation(Observation):
    """Observation of anchors with a class output and an encoded box each.

    RetinaNet, ATSS and SSD have such heads, and an RPN is such a head.

    Priors are ordered by level, then row, column and anchor; N is their number.
    """

    recording = staticmethod(anchor_assignment)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.assignment: Tensor | None = None
        """(B, N): index of the prior's box in its image's ground truth, -1 without a box."""
        self.sampled: Tensor | None = None
        """(B, N): True if the class loss includes the prior, False if it is ignored or not
        sampled. SSD mines hard negatives among the True ones."""

    # --- Outputs ---------------------------------------------------------------------------

    @cached_property
    def outputs(self) -> tuple[list[Tensor], ...]:
        """Outputs of the head by level: class maps, box maps and, of some heads, more."""
        from kd.observers import towers

        with self.gradients():
            if self.frozen:  # a teacher's features would be in memory without a use
                return self.head(tuple(self.neck))
            with towers.recording(self.head, self.neck) as features:
                outputs = self.head(tuple(self.neck))
        if features is not None:
            self.towers = features
        return outputs

    @cached_property
    def towers(self) -> Towers:
        """Features of the stacked convolutions of the class branch and of the box branch.

        A student's are those that its outputs were computed from.
        """
        from kd.observers.towers import towers_of

        with self.gradients():
            return towers_of(self.head, self.neck)

    def crossed(self, student: Any, layers: int) -> Any:
        """Return the observation of a student's features after the last layers of this head.

        The features after all convolutions but ``layers`` go through these convolutions and the
        predictors of this head. It has as many convolutions as the student's. Gradients flow to
        the features, and this head's weights get none.
        """
        from kd.observers import OBSERVERS
        from kd.observers.towers import rest_of_head

        kind: Any = OBSERVERS[self.detector.observer]
        observation = kind(self.detector, self.batch, frozen=student.frozen)
        observation.precision, observation.sizes = student.precision, student.sizes
        dtype = next(self.head.parameters()).dtype
        class_features, box_features = (
            # Autocast converts features itself.
            [
                maps if student.precision["enabled"] else maps.to(dtype)
                for maps in branch[-1 - layers]
            ]
            for branch in student.towers
        )
        with student.gradients():
            maps = rest_of_head(self.head, layers, class_features, box_features)
        observation.class_outputs, observation.box_outputs = maps
        return observation

    @cached_property
    def class_outputs(self) -> list[Tensor]:
        """Class maps of ``outputs``; a teacher computes them without its box branch."""
        from kd.observers.branches import class_branch

        if branches := self._branches():
            with self.gradients():
                return class_branch(self.head, branches, self.neck)
        return self.outputs[0]

    @cached_property
    def box_outputs(self) -> list[Tensor]:
        """Box maps of ``outputs``; a teacher computes them without its class branch."""
        from kd.observers.branches import box_branch

        if branches := self._branches():
            with self.gradients():
                return box_branch(self.head, branches, self.neck)
        return self.outputs[1]

    def _branches(self) -> Any:
        """Return the branches of a teacher's head, None after the whole head has run."""
        from kd.observers.branches import branches_of

        return branches_of(self.head) if self.frozen and "outputs" not in vars(self) else None

    @cached_property
    def class_maps(self) -> list[Tensor]:
        """Per level (B, A*K, H, W), logits of K sigmoid or softmax outputs for A anchors."""
        return [maps.float() for maps in self.class_outputs]

    @cached_property
    def probability_maps(self) -> list[Tensor]:
        """Per level (B, A*K, H, W): the class maps after the sigmoid, or each anchor's softmax."""
        if not self.softmax:
            return [maps.sigmoid() for maps in self.class_maps]
        outputs = self.head.cls_out_channels
        # (B, A*K, H, W) to (B, A, K, H, W): a softmax is over the classes of one anchor.
        return [
            maps.unflatten(1, (-1, outputs)).softmax(2).flatten(1, 2) for maps in self.class_maps
        ]

    @cached_property
    def logits(self) -> Tensor:
        """Class logits of every prior, (B, N, K)."""
        return by_prior(self.class_maps, self.head.cls_out_channels)

    @cached_property
    def probabilities(self) -> Tensor:
        """Probabilities of the foreground classes, (B, N, C)."""
        return self.logits.softmax(-1)[..., :-1] if self.softmax else self.logits.sigmoid()

    @cached_property
    def raw_codes(self) -> Tensor:
        """Box outputs of the network for every prior, (B, N, ...)."""
        # 4 numbers of an anchor, or 4 distributions in GFL.
        channels = self.box_outputs[0].shape[1] // self.head.prior_generator.num_base_priors[0]
        return by_prior([maps.float() for maps in self.box_outputs], channels)

    # --- Priors ----------------------------------------------------------------------------

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width in cells of each neck level."""
        return [(maps.shape[-2], maps.shape[-1]) for maps in self.neck]

    @cached_property
    def level_priors(self) -> list[Tensor]:
        """Priors by level, (N_l, 4), xyxy in pixels; a point has two equal corners."""
        levels = self.head.prior_generator.grid_priors(self.sizes, device=self.batch.inputs.device)
        return [plain(level) for level in levels]

    @cached_property
    def priors(self) -> Tensor:
        """Priors of all levels, (N, 4), xyxy in pixels."""
        return torch.cat(self.level_priors)

    @cached_property
    def prior_strides(self) -> Tensor:
        """Pixels per cell at each prior, (N,)."""
        return torch.cat(
            [
                priors.new_full((len(priors),), stride)
                for stride, priors in zip(self.strides, self.level_priors, strict=True)
            ]
        )

    def boxes(self, image: Tensor, prior: Tensor) -> Tensor:
        """Return the decoded boxes (P, 4), xyxy in pixels, of P priors given by (image, prior)."""
        with self.gradients():
            return plain(self._decode(self.codes(image, prior), prior))

    @cached_property
    def prior_boxes(self) -> Tensor:
        """Decoded boxes of every prior, (B, N, 4), xyxy in pixels."""
        images, priors = self.raw_codes.shape[:2]
        every_prior = torch.arange(priors, device=self.raw_codes.device).repeat(images)
        with self.gradients():
            # No index selects the codes: its gradient would be much slower than that of all rows.
            codes = self._codes(self.raw_codes.flatten(0, 1), every_prior)
            return plain(self._decode(codes, every_prior)).unflatten(0, (images, priors))

    def codes(self, image: Tensor, prior: Tensor) -> Tensor:
        """Return the encoded boxes (P, 4) of P priors, in the units of ``encode``."""
        with self.gradients():
            return self._codes(self.raw_codes[image, prior], prior)

    def _codes(self, raw: Tensor, prior: Tensor) -> Tensor:
        """Return the encoded boxes (P, 4) of P priors from their rows of ``raw_codes``."""
        return raw

    def encode(self, boxes: Tensor, prior: Tensor) -> Tensor:
        """Return the targets of ``codes`` at P priors for boxes (P, 4), xyxy in pixels."""
        return self.head.bbox_coder.encode(self.priors[prior], boxes)

    def _decode(self, codes: Tensor, prior: Tensor) -> Tensor:
        return self.head.bbox_coder.decode(self.priors[prior], codes)

    # --- Candidates: every prior -----------------------------------------------------------

    @property
    def candidate_softmax(self) -> bool:
        """True if the candidates' classes share one softmax, background last."""
        return self.softmax

    @cached_property
    def every_prior(self) -> Candidates:
        """All priors of all images."""
        assert self.assignment is not None
        images, priors = self.assignment.shape
        device = self.assignment.device
        image = torch.arange(images, device=device).repeat_interleave(priors)
        index = torch.arange(priors, device=device).repeat(images)
        box = self.assignment.flatten()
        instance = torch.where(box >= 0, box + self.batch.gt_offsets[image], box)
        return Candidates(image, index, instance)

    @cached_property
    def candidates(self) -> Candidates:
        """Boxes that are finally classified: all priors."""
        return self.every_prior

    def candidate_logits(self, candidates: Candidates) -> Tensor:
        """Return the class logits (P, K) of candidates."""
        return self.logits[candidates.image, candidates.index]

    def candidate_boxes(self, candidates: Candidates) -> Tensor:
        """Return the decoded boxes (P, 4), xyxy in pixels, of candidates with an object."""
        return self.boxes(candidates.image, candidates.index)

    def candidate_codes(self, candidates: Candidates) -> Tensor:
        """Return the encoded boxes (P, 4) of candidates with an object."""
        return self.codes(candidates.image, candidates.index)

    def candidate_targets(self, candidates: Candidates) -> Tensor:
        """Return the targets (P, 4) of ``candidate_codes``, of candidates with an object."""
        return self.encode(candidates.truth(self.batch), candidates.index)

    # --- The student's detection loss ------------------------------------------------------

    def losses(self) -> dict[str, Any]:
        from mmdet.models.utils import unpack_gt_instances

        return self._head_losses(*unpack_gt_instances(self.batch.samples))

    def _head_losses(self, truth: Any, ignored: Any, metas: Any) -> dict[str, Any]:
        """Return the head's losses, named as mmdet names them, and record their targets."""
        with self.recording(self.head) as recording:
            losses = self.head.loss_by_feat(*self.outputs, truth, metas, ignored)
        self.assignment, self.sampled = (torch.stack(rows) for rows in recording)
        return losses


class CenterObservation(DenseObservation):
    """Observation of heads whose ``codes`` are distances from a prior's center to the sides.

    Distances are in strides.
    """

    def encode(self, boxes: Tensor, prior: Tensor) -> Tensor:
        codes = self.head.bbox_coder.encode(self._centers(prior), boxes)
        return codes / self.prior_strides[prior, None]

    def _decode(self, codes: Tensor, prior: Tensor) -> Tensor:
        distances = codes * self.prior_strides[prior, None]
        return self.head.bbox_coder.decode(self._centers(prior), distances)

    def _centers(self, prior: Tensor) -> Tensor:
        return (self.priors[prior, :2] + self.priors[prior, 2:]) / 2


class DistributionObservation(CenterObservation):
    """Observation of GFL: the distance to a side is the mean of a distribution."""

    @property
    def sides(self) -> Tensor:
        """Logits of the distributions of all sides, (B, N, 4, R + 1).

        The sides are left, top, right and bottom. A softmax over the last dimension turns logits
        into the probabilities of the distances 0, 1, ..., R, in strides, from the prior's center.
        """
        return self.raw_codes.unflatten(-1, (4, -1))

    def _codes(self, raw: Tensor, prior: Tensor) -> Tensor:
        return self.head.integral(raw)


class PointObservation(CenterObservation):
    """Observation of FCOS: distances from a point, which has no width and height."""

    recording = staticmethod(point_assignment)

    @cached_property
    def level_priors(self) -> list[Tensor]:
        # (x, y) becomes (x, y, x, y), a box without area.
        return [points.repeat(1, 2) for points in super().level_priors]

    def _codes(self, raw: Tensor, prior: Tensor) -> Tensor:
        # mmdet's FCOSHead multiplies its outputs by the strides in eval mode only.
        in_strides = self.head.norm_on_bbox and self.head.training
        return raw if in_strides else raw / self.prior_strides[prior, None]


class GridObservation(DenseObservation):
    """Observation of YOLOv3: one map holds box, objectness and classes of each anchor."""

    recording = staticmethod(grid_assignment)

    @property
    def softmax(self) -> bool:
        return False

    @cached_property
    def class_maps(self) -> list[Tensor]:
        """Per level (B, A*C, H, W): class logits on the condition that there is an object."""
        return [maps[:, :, 5:].flatten(1, 2) for maps in self._anchor_maps]

    @cached_property
    def logits(self) -> Tensor:
        return by_prior(self.class_maps, self.head.num_classes)

    @cached_property
    def probability_maps(self) -> list[Tensor]:
        """Per level (B, A*C, H, W): objectness times class."""
        return [
            (maps[:, :, 5:].sigmoid() * maps[:, :, 4:5].sigmoid()).flatten(1, 2)
            for maps in self._anchor_maps
        ]

    @cached_property
    def probabilities(self) -> Tensor:
        """Objectness times class, (B, N, C)."""
        return by_prior(self.probability_maps, self.head.num_classes)

    @cached_property
    def raw_codes(self) -> Tensor:
        """Box and objectness of every prior, (B, N, 5)."""
        return by_prior([maps[:, :, :5].flatten(1, 2) for maps in self._anchor_maps], 5)

    def _codes(self, raw: Tensor, prior: Tensor) -> Tensor:
        # YOLO's coder reads the center after a sigmoid, and logarithms of width and height.
        return torch.cat([raw[:, :2].sigmoid(), raw[:, 2:4]], 1)

    def encode(self, boxes: Tensor, prior: Tensor) -> Tensor:
        return self.head.bbox_coder.encode(self.priors[prior], boxes, self.prior_strides[prior])

    def _decode(self, codes: Tensor, prior: Tensor) -> Tensor:
        strides = self.prior_strides[prior, None]
        return self.head.bbox_coder.decode(self.priors[prior], codes, strides)

    @cached_property
    def _anchor_maps(self) -> list[Tensor]:
        """Per level (B, A, 5 + C, H, W)."""
        outputs = self.head.num_attrib
        return [maps.float().unflatten(1, (-1, outputs)) for maps in self.outputs[0]]


def by_prior(maps: list[Tensor], channels: int) -> Tensor:
    """Join maps (B, A*channels, H, W) of all levels into (B, N, channels)."""
    # With channels last, the anchors of a cell are consecutive, which is the order of priors.
    return torch.cat(
        [level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in maps], 1
    )
