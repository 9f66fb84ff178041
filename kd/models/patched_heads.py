"""Patched heads: mmdet's heads with losses of the global batch, and a repaired SSDHead.

mmdet divides some losses by each process's own count, or by none. The ``GlobalBatch`` heads divide
by the count's mean over processes and over the parts of a batch, so that averaged gradients are
those of the joined batch. In one process and one part they compute bit-identical losses to mmdet's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from mmdet.models import dense_heads
from mmdet.models.roi_heads import bbox_heads
from mmdet.registry import MODELS
from mmdet.utils import dist_utils, reduce_mean
from mmengine.logging import MessageHub
from torch import Tensor, distributed

from kd.methods.ops.parts import Parts
from kd.methods.ops.reduction import participants, shared_count, shared_sum


class _SharedCount:
    """Mixin of a head: its losses are divided by the mean count of all processes."""

    count_index: ClassVar[int] = 4
    """Index of the count in the tuple that ``get_targets`` returns."""

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        targets = list(super().get_targets(*args, **kwargs))  # type: ignore[misc]
        targets[self.count_index] = shared_count(targets[self.count_index])
        return tuple(targets)


@MODELS.register_module()
class GlobalBatchRetinaHead(_SharedCount, dense_heads.RetinaHead):
    """mmdet's RetinaHead, dividing by the positive anchors of all processes."""


@MODELS.register_module()
class GlobalBatchRPNHead(_SharedCount, dense_heads.RPNHead):
    """mmdet's RPNHead, dividing by the sampled anchors of all processes."""


@MODELS.register_module()
class CompleteSSDHead(_SharedCount, dense_heads.SSDHead):
    """mmdet's SSDHead with the ``loss_cls`` that its ``predict`` reads and that mmdet 3.3.0 lacks.

    The loss itself is a softmax cross-entropy with hard negatives (SSD paper), as in mmdet. It is
    divided by the positive anchors of all processes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss_cls = MODELS.build({"type": "CrossEntropyLoss", "use_sigmoid": False})


class _SharedSum:
    """Mixin of a head that divides losses by a sum of weights, clamped to 1 over all processes.

    The weights are scores or IoUs. Early in training their sum in one process is less than 1.
    """

    divided = ("loss_bbox", "loss_dfl")
    """Losses that are divided by the sum."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._weight_sums: list[Tensor] = []
        """Sum of the weights at each level, of the last loss."""

    def loss_by_feat_single(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        losses = super().loss_by_feat_single(*args, **kwargs)  # type: ignore[misc]
        self._weight_sums.append(losses[-1])
        return losses

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self._weight_sums.clear()
        losses = super().loss_by_feat(*args, **kwargs)  # type: ignore[misc]
        if participants() == 1:
            return losses
        scale = _rescaled(reduce_mean(sum(self._weight_sums)))
        scaled = {name: [scale * level for level in losses[name]] for name in self.divided}
        return losses | scaled


def _rescaled(mean: Tensor) -> Tensor:
    """Return the factor that turns division by a clamped mean over processes into the batch's.

    mmdet divided by ``mean.clamp(min=1)``; the joined batch divides by its own sum, clamped.
    """
    number = participants()
    return mean.clamp(min=1) / ((mean * number).clamp(min=1) / number)


@MODELS.register_module()
class GlobalBatchGFLHead(_SharedSum, dense_heads.GFLHead):
    """mmdet's GFLHead, which clamps the sum of weights to 1 over all processes, not in each."""


@MODELS.register_module()
class GlobalBatchRTMDetSepBNHead(_SharedSum, dense_heads.RTMDetSepBNHead):
    """mmdet's RTMDetSepBNHead, which clamps the sum of IoUs to 1 over all processes."""

    divided = ("loss_cls", "loss_bbox")


@MODELS.register_module()
class GlobalBatchYOLOXHead(dense_heads.YOLOXHead):
    """mmdet's YOLOXHead, which clamps the number of positive priors to 1 over all processes.

    Its outputs are converted to float32 before the loss: mmdet decodes boxes in their precision,
    and bfloat16 rounds a box of 500 pixels to multiples of 2.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._positive_counts: list[int] = []
        """Positive priors of each image, of the last loss."""

    def _get_targets_single(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        targets = super()._get_targets_single(*args, **kwargs)
        self._positive_counts.append(targets[-1])
        return targets

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        objectnesses: list[Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        self._positive_counts.clear()
        outputs = (
            [level.float() for level in levels] for levels in (cls_scores, bbox_preds, objectnesses)
        )
        losses = super().loss_by_feat(*outputs, *args, **kwargs)
        if participants() == 1:
            return losses
        count = cls_scores[0].new_tensor(sum(self._positive_counts), dtype=torch.float)
        scale = _rescaled(reduce_mean(count))
        return {name: scale * loss for name, loss in losses.items()}


@MODELS.register_module()
class GlobalBatchShared2FCBBoxHead(bbox_heads.Shared2FCBBoxHead):
    """mmdet's Shared2FCBBoxHead, dividing by the sampled RoIs of all processes."""

    def loss(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        losses = super().loss(*args, **kwargs)
        if participants() == 1:
            return losses
        # The counts by which mmdet divided, each of this process alone, are replaced by the mean.
        label_weights, bbox_targets = args[4], args[5]
        counts = {
            "loss_cls": (label_weights > 0).sum().clamp(min=1),
            "loss_bbox": len(bbox_targets),
        }
        for name, count in counts.items():
            losses[name] = losses[name] * (count / shared_count(count))
        return losses


@MODELS.register_module()
class GlobalBatchYOLOV3Head(dense_heads.YOLOV3Head):
    """mmdet's YOLOV3Head, whose losses are sums over the images of all processes."""

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        losses = super().loss_by_feat(*args, **kwargs)
        number = participants()
        if number == 1:
            return losses
        # Gradients are averaged over processes and parts: that number of times it is the sum.
        return {name: [number * level for level in levels] for name, levels in losses.items()}


@MODELS.register_module()
class GlobalBatchVFNetHead(dense_heads.VFNetHead):
    """mmdet's VFNetHead, which clamps its divisors to 1 over all processes, not in each.

    The divisors are the number of positive points, and the sums of the IoUs of both boxes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sums: dict[str, Tensor] = {}
        """Divisors of each loss in this process, of the last loss."""

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        targets = super().get_targets(*args, **kwargs)
        if participants() > 1:
            labels = torch.cat(targets[0])
            self._sums["loss_cls"] = ((labels >= 0) & (labels < self.num_classes)).sum().float()
        return targets

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if participants() == 1:
            return super().loss_by_feat(*args, **kwargs)
        zero = args[0][0].new_zeros((), dtype=torch.float)
        # A process without a positive point does not call the losses of boxes.
        self._sums = dict.fromkeys(("loss_cls", "loss_bbox", "loss_bbox_rf"), zero)
        hooks = [
            loss.register_forward_pre_hook(self._record(name), with_kwargs=True)
            for name, loss in (
                ("loss_bbox", self.loss_bbox),
                ("loss_bbox_rf", self.loss_bbox_refine),
            )
        ]
        try:
            losses = super().loss_by_feat(*args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()
        scales = _rescaled(reduce_mean(torch.stack([*self._sums.values()])))
        return {name: scale * losses[name] for name, scale in zip(self._sums, scales, strict=True)}

    def _record(self, name: str) -> Any:
        def record(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            self._sums[name] = kwargs["weight"].sum()

        return record


@MODELS.register_module()
class GlobalBatchTOODHead(dense_heads.TOODHead):
    """mmdet's TOODHead, which clamps the sums of weights to 1 over all processes, not in each.

    The loop sets its epoch, which mmdet reads from a message hub: it assigns labels as ATSS in the
    first ``initial_epoch`` epochs, and by its own outputs afterwards. Without a loop it is past
    these epochs. Boxes are sampled in float32, also with mixed precision: mmdet rounds them to the
    precision of the offsets, and bfloat16 has no coordinate between 128 and 129.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.current_epoch: int = self.initial_epoch if self.train_cfg else 0
        self._weight_sums: list[Tensor] = []
        """Sums of the weights of classes and boxes (2,) at each level, of the last loss."""

    def set_epoch(self, epoch: int) -> None:
        """Set the number of finished epochs."""
        self.current_epoch = epoch

    def deform_sampling(self, feat: Tensor, offset: Tensor) -> Tensor:
        return super().deform_sampling(feat, offset.to(feat.dtype))

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        MessageHub.get_current_instance().update_info("epoch", self.current_epoch)
        return super().get_targets(*args, **kwargs)

    def loss_by_feat_single(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        losses = super().loss_by_feat_single(*args, **kwargs)
        self._weight_sums.append(torch.stack(losses[2:]))
        return losses

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self._weight_sums.clear()
        losses = super().loss_by_feat(*args, **kwargs)
        if participants() == 1:
            return losses
        scales = _rescaled(reduce_mean(torch.stack(self._weight_sums).sum(0)))
        return {
            name: [scale * level for level in losses[name]]
            for name, scale in zip(("loss_cls", "loss_bbox"), scales, strict=True)
        }


@MODELS.register_module()
class GlobalBatchDDODHead(dense_heads.DDODHead):
    """mmdet's DDODHead, whose weights of levels count the positive anchors of all processes.

    The weights depend on all steps before, so the counts are part of a checkpoint.
    """

    def calc_reweight_factor(self, labels_list: list[Tensor]) -> list[float]:
        if participants() > 1:
            positive = [(label >= 0) & (label < self.num_classes) for label in labels_list]
            counts = torch.stack([level.sum() for level in positive])
            before, totals = counts.tolist(), shared_sum(counts).tolist()
            for level, (total, here) in enumerate(zip(totals, before, strict=True)):
                self.cls_num_pos_samples_per_level[level] += total - here
        return super().calc_reweight_factor(labels_list)

    def training_state(self) -> list[float]:
        """Return the positive anchors of each level in all steps, the same in every process."""
        return list(self.cls_num_pos_samples_per_level)

    def load_training_state(self, state: list[float]) -> None:
        """Set the positive anchors of each level in all steps."""
        self.cls_num_pos_samples_per_level = list(state)


@MODELS.register_module()
class GlobalBatchRepPointsHead(_SharedCount, dense_heads.RepPointsHead):
    """mmdet's RepPointsHead, dividing by the positive points of all processes.

    Its assigner makes an index on the CPU, with which tensors of a GPU cannot select.
    """

    count_index = 5

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        proposals = kwargs.get("proposals_list") or args[0]
        with proposals[0][0].device:
            return super().get_targets(*args, **kwargs)


class _PartGroup:
    """Stand-in for ``torch.distributed`` whose members are the parts of a batch."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def __getattr__(self, name: str) -> Any:
        return getattr(distributed, name)

    def is_initialized(self) -> bool:
        return True

    def get_world_size(self) -> int:
        return self.parts.participants

    def all_reduce(self, tensor: Tensor, op: Any = None) -> None:
        tensor.copy_(self.parts.total(tensor.detach()))


@contextmanager
def means_over(parts: Parts) -> Iterator[None]:
    """Extend mmdet's ``reduce_mean`` in a block to all parts of a batch."""
    dist_utils.dist = _PartGroup(parts)
    try:
        yield
    finally:
        dist_utils.dist = distributed
