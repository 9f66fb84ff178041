"""Heads of mmdet in need of a repair."""

from typing import Any

from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS


@MODELS.register_module()
class CompleteSSDHead(SSDHead):
    """mmdet's SSDHead with a ``loss_cls``, which its ``predict`` reads (mmdet 3.3.0) and it lacks.

    The loss itself is a softmax cross-entropy with hard negatives (SSD paper), as in mmdet.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss_cls = MODELS.build({"type": "CrossEntropyLoss", "use_sigmoid": False})
