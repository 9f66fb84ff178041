"""Patched heads: mmdet's heads with losses of the global batch, and a repaired SSDHead.

mmdet divides some losses by each process's own count, or by none. The ``GlobalBatch`` heads divide
by the count's mean over processes, so that averaged gradients are those of the joined batch. In one
process they compute bit-identical losses to mmdet's.
"""

from typing import Any

import torch
from mmdet.models import dense_heads
from mmdet.models.roi_heads import bbox_heads
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from mmengine.dist import get_world_size
from torch import Tensor

from kd.methods.ops.reduction import shared_count

COUNT_INDEX = 4
"""Index of the count in the tuple that an anchor head's ``get_targets`` returns."""


class _SharedCount:
    """Mixin of an anchor head: its losses are divided by the mean count of all processes."""

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        targets = super().get_targets(*args, **kwargs)  # type: ignore[misc]
        return (
            *targets[:COUNT_INDEX],
            shared_count(targets[COUNT_INDEX]),
            *targets[COUNT_INDEX + 1 :],
        )


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
        if get_world_size() == 1:
            return losses
        scale = _rescaled(reduce_mean(sum(self._weight_sums)))
        scaled = {name: [scale * level for level in losses[name]] for name in self.divided}
        return losses | scaled


def _rescaled(mean: Tensor) -> Tensor:
    """Return the factor that turns division by a clamped mean over processes into the batch's.

    mmdet divided by ``mean.clamp(min=1)``; the joined batch divides by its own sum, clamped.
    """
    world = get_world_size()
    return mean.clamp(min=1) / ((mean * world).clamp(min=1) / world)


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
        if get_world_size() == 1:
            return losses
        count = cls_scores[0].new_tensor(sum(self._positive_counts), dtype=torch.float)
        scale = _rescaled(reduce_mean(count))
        return {name: scale * loss for name, loss in losses.items()}


@MODELS.register_module()
class GlobalBatchShared2FCBBoxHead(bbox_heads.Shared2FCBBoxHead):
    """mmdet's Shared2FCBBoxHead, dividing by the sampled RoIs of all processes."""

    def loss(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        losses = super().loss(*args, **kwargs)
        if get_world_size() == 1:
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
        world = get_world_size()
        if world == 1:
            return losses
        # DistributedDataParallel averages gradients over processes: world times that is the sum.
        return {name: [world * level for level in levels] for name, levels in losses.items()}
