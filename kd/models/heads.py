"""Heads of mmdet in need of a repair.

mmdet divides some losses by each process's own count, or by none. Those that bear the name of
mmdet's take its place: they divide by the count's mean over processes, so that averaged gradients
are those of the joined batch. In one process they compute what mmdet's do, to the bit.
"""

from typing import Any

from mmdet.models import dense_heads
from mmdet.models.roi_heads import bbox_heads
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from mmengine.dist import get_world_size
from torch import Tensor

from kd.methods.ops.reduction import shared_count

COUNT = 4
"""Place of the count in what an anchor head's ``get_targets`` returns."""


class _SharedCount:
    """Mixed into an anchor head: the count that its losses are divided by is shared."""

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        found = super().get_targets(*args, **kwargs)  # type: ignore[misc]
        return (*found[:COUNT], shared_count(found[COUNT]), *found[COUNT + 1 :])


@MODELS.register_module(force=True)
class RetinaHead(_SharedCount, dense_heads.RetinaHead):
    """mmdet's RetinaHead, dividing by the positives of all processes."""


@MODELS.register_module(force=True)
class RPNHead(_SharedCount, dense_heads.RPNHead):
    """mmdet's RPNHead, dividing by the samples of all processes."""


@MODELS.register_module()
class CompleteSSDHead(_SharedCount, dense_heads.SSDHead):
    """mmdet's SSDHead with a ``loss_cls``, which its ``predict`` reads (mmdet 3.3.0) and it lacks.

    The loss itself is a softmax cross-entropy with hard negatives (SSD paper), as in mmdet.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss_cls = MODELS.build({"type": "CrossEntropyLoss", "use_sigmoid": False})


@MODELS.register_module(force=True)
class GFLHead(dense_heads.GFLHead):
    """mmdet's GFLHead, whose sum of weights is 1 at least over all processes, not in each.

    The weights are scores, so that early in training the sum of a process is less.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._weights: list[Tensor] = []

    def loss_by_feat_single(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        found = super().loss_by_feat_single(*args, **kwargs)
        self._weights.append(found[-1])
        return found

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self._weights.clear()
        losses = super().loss_by_feat(*args, **kwargs)
        world = get_world_size()
        if world == 1:
            return losses
        mean = reduce_mean(sum(self._weights))
        scale = mean.clamp(min=1) / ((mean * world).clamp(min=1) / world)
        terms = ("loss_bbox", "loss_dfl")
        scaled = {name: [scale * level for level in losses[name]] for name in terms}
        return losses | scaled


@MODELS.register_module(force=True)
class Shared2FCBBoxHead(bbox_heads.Shared2FCBBoxHead):
    """mmdet's head of RoIs, dividing by the RoIs of all processes."""

    def loss(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        losses = super().loss(*args, **kwargs)
        if get_world_size() == 1:
            return losses
        label_weights, bbox_targets = args[4], args[5]
        counts = {
            "loss_cls": (label_weights > 0).sum().clamp(min=1),
            "loss_bbox": len(bbox_targets),
        }
        for name, count in counts.items():
            losses[name] = losses[name] * (count / shared_count(count))
        return losses


@MODELS.register_module(force=True)
class YOLOV3Head(dense_heads.YOLOV3Head):
    """mmdet's YOLOV3Head, whose losses are sums over the images of all processes."""

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        losses = super().loss_by_feat(*args, **kwargs)
        world = get_world_size()
        if world == 1:
            return losses
        return {name: [world * level for level in levels] for name, levels in losses.items()}
