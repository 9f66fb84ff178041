"""Detectors that are built in place of mmdet's."""

from typing import Any

from mmdet.models import detectors
from mmdet.registry import MODELS
from mmengine.device import is_cuda_available


@MODELS.register_module()
class GPUSyncRTMDet(detectors.RTMDet):
    """mmdet's RTMDet, which synchronizes batch normalization of several processes on GPUs only.

    DistributedDataParallel refuses synchronized batch normalization on CPUs.
    """

    def __init__(self, *args: Any, use_syncbn: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, use_syncbn=use_syncbn and is_cuda_available(), **kwargs)
