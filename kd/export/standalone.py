"""Modules beside an export, assembled from the source code of this project.

They have what mmcv-lite and mmdet lack for a detector of this project, and import only torch,
torchvision, mmcv, mmengine and mmdet.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from kd.models import backbones, deform_ops, mmcv_ops

OPERATORS = "mmcv_lite_operators"
"""Module with the operators of predictions; it does nothing beside a compiled mmcv."""
CLASSES = "detector_classes"
"""Module with the classes that mmdet lacks."""

_OPERATORS_HEAD = '''"""Operators of predictions that mmcv-lite lacks, computed by torchvision.

Import this module before mmdet. It does nothing if a compiled mmcv is installed. Written by `kd
export`; Apache-2.0.
"""

import sys
from functools import partial, reduce
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor

_MAX_POOL = 0
'''
_OPERATORS_TAIL = """
def _refuse(operator: str, *_: Any, **__: Any) -> Any:
    raise NotImplementedError(f"mmcv operator '{operator}': install a compiled mmcv")


class _Extension(ModuleType):
    def __init__(self) -> None:
        super().__init__("mmcv._ext")
        self.__spec__ = ModuleSpec("mmcv._ext", loader=None)
        for operator in (SERVED):
            setattr(self, operator.__name__, operator)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(_refuse, name)


try:
    import_module("mmcv._ext")
except ImportError:
    sys.modules["mmcv._ext"] = _Extension()
"""
_SERVED = (
    mmcv_ops.nms,
    mmcv_ops.roi_align_forward,
    deform_ops.deform_conv_forward,
    deform_ops.modulated_deform_conv_forward,
)
_HELPERS = (
    deform_ops.common_float,
    deform_ops._Operands,
    deform_ops._forward,
    deform_ops._in_order,
    deform_ops._plain_mask,
    deform_ops._zero_bias,
    mmcv_ops._require_average,
)
_CLASSES_HEAD = '''"""Classes that mmdet 3.3.0 lacks. Written by `kd export`; Apache-2.0."""

from typing import Any

from mmcv.cnn import ConvModule
from mmdet.models import backbones
from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
'''
_SSD_HEAD = '''
@MODELS.register_module()
class CompleteSSDHead(SSDHead):
    """mmdet's SSDHead with the ``loss_cls`` that its ``predict`` reads and that mmdet lacks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss_cls = MODELS.build({"type": "CrossEntropyLoss", "use_sigmoid": False})
'''


def operators_source() -> str:
    """Return the module of operators."""
    constants = (
        f"_GEOMETRY_V1 = {deform_ops._GEOMETRY_V1!r}\n_GEOMETRY_V2 = {deform_ops._GEOMETRY_V2!r}\n"
    )
    names = ", ".join(function.__name__ for function in _SERVED)
    tail = _OPERATORS_TAIL.replace("SERVED", names)
    return _module(_OPERATORS_HEAD + constants, _HELPERS + _SERVED, tail)


def classes_source(renamed: Mapping[str, str]) -> str:
    """Return the module of classes under new names, so that they are none of this project's."""
    head = f"{_CLASSES_HEAD}\nLEAKY = {backbones.LEAKY!r}\n"
    parts = (backbones._drop_unused, backbones._convolution, backbones.VGG16)
    text = _module(head, (*parts, backbones.ScalableDarknet), _SSD_HEAD)
    for ours, theirs in renamed.items():
        text = text.replace(f"class {ours}(", f"class {theirs}(")
    return text


def _module(head: str, parts: tuple[Any, ...], tail: str) -> str:
    sources = [inspect.getsource(part).strip() for part in parts]
    return "\n\n\n".join([head.strip(), *sources, tail.strip()]) + "\n"
