"""Observations of two-stage detectors: a class-agnostic RPN, then a head on regions (RoIs)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from kd.common.modules import LazyModule
from kd.observers.base import Candidates, plain
from kd.observers.dense import DenseObservation
from kd.observers.recording import wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


OUTPUTS = ("bbox_feats", "cls_score", "bbox_pred")
"""mmdet's names of a second stage's pooled features, class logits and encoded boxes."""


class ProposalObservation(DenseObservation):
    """Observation of the first stage: ``logits``, ``boxes``, ``assignment`` of the RPN (K = 1)."""

    @property
    def head(self) -> Any:
        return self.detector.rpn_head

    @cached_property
    def proposals(self) -> list[Tensor]:
        """Proposals by image, (n, 4), xyxy in pixels, best first, without gradients."""
        return [plain(result.bboxes) for result in self._propose()]

    def losses(self) -> dict[str, Any]:
        from mmdet.models.utils import unpack_gt_instances
        from mmengine.structures import InstanceData

        truth, ignored, metas = unpack_gt_instances(self.batch.samples)
        # An RPN has one class, so every box has label 0.
        objects = [
            InstanceData(bboxes=image.bboxes, labels=torch.zeros_like(image.labels))
            for image in truth
        ]
        losses = self._head_losses(objects, ignored, metas)
        # Proposals are computed once, for the second stage's loss and for methods.
        results = self._propose()
        self.proposals = [plain(result.bboxes) for result in results]
        return losses | self._region_losses(results)

    def _propose(self) -> list[Any]:
        detector = self.detector
        config = detector.train_cfg.get("rpn_proposal", detector.test_cfg.rpn)
        metas = [sample.metainfo for sample in self.batch.samples]
        with self.gradients():
            return self.head.predict_by_feat(*self.outputs, batch_img_metas=metas, cfg=config)

    def _region_losses(self, proposals: list[Any]) -> dict[str, Any]:
        return self.detector.roi_head.loss(tuple(self.neck), proposals, self.batch.samples)


class TwoStageObservation(ProposalObservation):
    """Observation of Faster R-CNN: candidates are the RoIs sampled for the student's loss.

    Values of candidates without ``rois``, such as ``every_prior``, are those of the RPN.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._regions: dict[int, tuple[Tensor, dict[str, Tensor]]] = {}
        """RoIs and the second stage's outputs on them, by the id of the tensor of RoIs. The tensor
        is stored so that no later tensor gets its id."""

    @property
    def candidate_softmax(self) -> bool:
        return not self.detector.roi_head.bbox_head.loss_cls.use_sigmoid

    def sample(self, proposals: list[Tensor]) -> Candidates:
        """Assign and sample proposals, per image (n, 4), as the second stage's training does."""
        from mmengine.structures import InstanceData

        head, sampled = self.detector.roi_head, []
        for sample, boxes in zip(self.batch.samples, proposals, strict=True):
            priors, truth = InstanceData(priors=boxes), sample.gt_instances
            assigned = head.bbox_assigner.assign(priors, truth)
            sampled.append(head.bbox_sampler.sample(assigned, priors, truth))
        return self._candidates(sampled)

    @property
    def region_maps(self) -> tuple[Tensor, ...]:
        """Neck maps (B, C, H, W), level by level, from which regions are pooled."""
        levels = self.detector.roi_head.bbox_roi_extractor.num_inputs
        # A method's read runs outside autocast, and the maps may be in half precision.
        with self.gradients():
            return tuple(level.float() for level in self.neck[:levels])

    def pool(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Return the features (R, C, k, k) of RoIs (R, 5) in maps as large as ``region_maps``."""
        features: Tensor = self.detector.roi_head.bbox_roi_extractor(tuple(maps), rois)
        return features

    def candidate_logits(self, candidates: Candidates) -> Tensor:
        if candidates.rois is None:
            return super().candidate_logits(candidates)
        return self._region(candidates.rois)["cls_score"].float()[candidates.index]

    def candidate_boxes(self, candidates: Candidates) -> Tensor:
        if candidates.rois is None:
            return super().candidate_boxes(candidates)
        coder, rois = self.detector.roi_head.bbox_head.bbox_coder, candidates.rois
        with self.gradients():
            boxes = coder.decode(rois[candidates.index, 1:], self.candidate_codes(candidates))
        return plain(boxes)

    def candidate_codes(self, candidates: Candidates) -> Tensor:
        """Return the encoded boxes (P, 4) of candidates with an object, for its class."""
        if candidates.rois is None:
            return super().candidate_codes(candidates)
        codes = self._region(candidates.rois)["bbox_pred"].float()[candidates.index]
        if self.detector.roi_head.bbox_head.reg_class_agnostic:
            return codes
        # (P, 4 C) to (P, C, 4): the head regresses a box for each class.
        by_class = codes.unflatten(1, (-1, 4))
        row = torch.arange(len(codes), device=codes.device)
        return by_class[row, candidates.labels(self.batch)]

    def candidate_targets(self, candidates: Candidates) -> Tensor:
        if candidates.rois is None:
            return super().candidate_targets(candidates)
        coder = self.detector.roi_head.bbox_head.bbox_coder
        return coder.encode(candidates.rois[candidates.index, 1:], candidates.truth(self.batch))

    def region_outputs(self, rois: Tensor) -> dict[str, Tensor]:
        """Return the outputs (R, ...) of the second stage that are stored for RoIs (R, 5)."""
        outputs = self._regions[id(rois)][1]
        return {name: outputs[name] for name in OUTPUTS if name in outputs}

    def add_region_outputs(self, rois: Tensor, outputs: dict[str, Tensor]) -> None:
        """Store outputs of the second stage for RoIs (R, 5)."""
        self._regions[id(rois)] = rois, outputs

    def _region(self, rois: Tensor) -> dict[str, Tensor]:
        """Return the second stage's outputs on RoIs, computed once for each tensor of RoIs."""
        outputs = self._pooled(rois)
        if "cls_score" not in outputs:
            with self.gradients():
                scores, codes = self.detector.roi_head.bbox_head(outputs["bbox_feats"])
            outputs |= {"cls_score": scores, "bbox_pred": codes}
        return outputs

    def _pooled(self, rois: Tensor) -> dict[str, Tensor]:
        """Return the stored outputs of RoIs; their pooled features are always among them."""
        if id(rois) not in self._regions:
            with self.gradients():
                features = self.pool(self.region_maps, rois)
            self.add_region_outputs(rois, {"bbox_feats": features})
        return self._regions[id(rois)][1]

    def _region_losses(self, proposals: list[Any]) -> dict[str, Any]:
        """Store the RoIs that are sampled for the loss, and the head's outputs on them."""

        def recording(method: Any) -> Any:
            def recorded(neck: Any, sampled: list[Any]) -> Any:
                outputs = method(neck, sampled)
                self.candidates = self._candidates(sampled)
                assert self.candidates.rois is not None
                self.add_region_outputs(self.candidates.rois, outputs)
                return outputs

            return recorded

        with wrapped(self.detector.roi_head, "bbox_loss", recording):
            return super()._region_losses(proposals)

    def _candidates(self, sampled: list[Any]) -> Candidates:
        from mmdet.structures.bbox import bbox2roi

        rois = bbox2roi([plain(image.priors) for image in sampled])
        instance = rois.new_full((len(rois),), -1, dtype=torch.long)
        start = 0
        for image, offset in zip(sampled, self.batch.gt_offsets, strict=True):
            # mmdet's sampling results list positive RoIs first.
            positives = slice(start, start + len(image.pos_priors))
            instance[positives] = image.pos_assigned_gt_inds + offset
            start += len(image.priors)
        index = torch.arange(len(rois), device=rois.device)
        return Candidates(rois[:, 0].long(), index, instance, rois)
