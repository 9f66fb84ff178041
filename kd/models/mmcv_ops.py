"""Operators of mmcv's compiled module ``mmcv._ext``, computed by torchvision and plain torch.

mmcv-lite has the Python half of ``mmcv.ops`` but not the compiled half, which mmdet imports.
``extension`` is a module with the operators that the detectors here call, on CPU and CUDA. An
installation of this project has the file ``mmcv/_ext.py``, which is replaced by this module.
Arguments have the names and order that ``mmcv.ops`` passes; results are written where it reads.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision
from torch import Tensor
from torch.nn import functional

from kd.common.errors import UserError
from kd.models import deform_ops, roi_align
from kd.models.deform_ops import common_float

_NAME = "mmcv._ext"
_MAX_POOL = 0
_NAIVE, _LINEAR, _GAUSSIAN = range(3)


class UnservedOperatorError(UserError, NotImplementedError):
    """Error of a call of an mmcv operator that only compiled mmcv has."""


def extension() -> ModuleType:
    """Return our ``mmcv._ext``."""
    return _Extension()


def install() -> bool:
    """Import ``mmcv._ext``, and register ours if no file has that name (``PYTHONPATH`` alone).

    Return True if ours is in use, False if a compiled mmcv is installed, which is not replaced.
    """
    if _NAME not in sys.modules:
        try:
            import_module(_NAME)
        except ModuleNotFoundError as error:
            if error.name != _NAME:
                raise
            sys.modules[_NAME] = extension()
    return isinstance(sys.modules[_NAME], _Extension)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices (K,) that greedy NMS keeps of xyxy pixel boxes (N, 4), best score first.

    mmcv 2.1.0 nms semantics: a side is ``x2 - x1 + offset``, and a box whose IoU equals the
    threshold is not suppressed.
    """
    boxes, scores = common_float(boxes, scores)
    # torchvision's CPU kernel compares to a double, and 0.6 as a float exceeds 0.6.
    rounded = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    # Moving the far corner by the offset gives mmcv's sides, for boxes and intersections.
    widened = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    indices: Tensor = torchvision.ops.nms(widened, scores, rounded)
    return indices


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Return the indices (K,) Soft-NMS keeps of boxes (N, 4); write box and score to dets (N, 5).

    mmcv 2.1.0 softnms semantics; method 0 is naive, 1 linear, 2 gaussian. Rows past K are unset.
    """
    boxes, scores = common_float(boxes, scores)
    remaining = torch.arange(len(boxes), device=boxes.device)
    indices: list[int] = []
    while len(remaining):
        # Take the best remaining box, and lower the scores of the boxes that overlap it.
        best = int(scores.argmax())
        dets[len(indices)] = torch.cat((boxes[best], scores[best, None]))
        indices.append(int(remaining[best]))
        overlap = _overlaps(boxes[best], boxes, offset)
        scores = scores * _decay(overlap, iou_threshold, sigma, method)
        stay = scores >= min_score
        stay[best] = False
        boxes, scores, remaining = boxes[stay], scores[stay], remaining[stay]
    return torch.tensor(indices, dtype=torch.long, device=dets.device)


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average features (B, C, H, W) over rois (K, 5) of index and xyxy into output (K, C, h, w).

    mmcv 2.1.0 roi_align semantics. UnservedOperatorError for max pooling.
    """
    _require_average(pool_mode, "roi_align_forward")
    size = (aligned_height, aligned_width)
    features, rois = common_float(features, rois)
    output.copy_(
        torch.ops.torchvision.roi_align(
            features, rois, spatial_scale, *size, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write into grad_input (B, C, H, W) the gradient of ``roi_align_forward``'s features.

    UnservedOperatorError for max pooling.
    """
    _require_average(pool_mode, "roi_align_backward")
    size, shape = (aligned_height, aligned_width), grad_input.shape
    grad_output, rois = common_float(grad_output, rois)
    if roi_align.separable(grad_output, shape):
        gradient = roi_align.spread(
            grad_output, rois, shape, spatial_scale, sampling_ratio, aligned
        )
    else:
        gradient = torch.ops.torchvision._roi_align_backward(
            grad_output, rois, spatial_scale, *size, *shape, sampling_ratio, aligned
        )
    grad_input.copy_(gradient)


def sigmoid_focal_loss_forward(
    logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the focal loss of logits (N, C) and class indices (N,), C for background, to (N, C).

    mmcv 2.1.0 sigmoid_focal_loss semantics, but exact where a float's sigmoid rounds to 0 or 1.
    With s = +1 for the target's class and -1 otherwise, and p = sigmoid(s logit), the loss is
    -alpha_s (1 - p)^gamma log(p). ``weight`` (C,) or empty scales a row by its class; background,
    which is undefined in mmcv, has weight 1.
    """
    logits, sign, scale = _focal_terms(logits, target, weight, alpha)
    margin = sign * logits
    output.copy_(-scale * torch.sigmoid(-margin) ** gamma * functional.logsigmoid(margin))


def sigmoid_focal_loss_backward(
    logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write into grad_input (N, C) the gradient of ``sigmoid_focal_loss_forward``'s logits.

    It is s alpha_s (1 - p)^gamma (gamma p log(p) - (1 - p)).
    """
    logits, sign, scale = _focal_terms(logits, target, weight, alpha)
    margin = sign * logits
    # 1 - p as a sigmoid is exact where p rounds to 1.
    right, wrong = torch.sigmoid(margin), torch.sigmoid(-margin)
    slope = gamma * right * functional.logsigmoid(margin) - wrong
    grad_input.copy_(sign * scale * wrong**gamma * slope)


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    locations: Tensor,
    weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the multi-scale deformable attention (B, Q, C) of ``value`` (B, K, heads, c) on a GPU.

    ``mmcv.ops`` calls it on a GPU and has a plain form for CPUs, which computes it here.
    """
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    attention: Tensor = multi_scale_deformable_attn_pytorch(
        value, spatial_shapes, locations, weights
    )
    return attention


def get_compiler_version() -> str:
    """Return the text that mmcv's environment report prints in place of a compiler."""
    return f"none: operators of torchvision {torchvision.__version__}"


def get_compiling_cuda_version() -> str:
    """Return the CUDA version torch was built with, for mmcv's environment report."""
    return torch.version.cuda or "not available"


_SERVED: tuple[Callable[..., Any], ...] = (
    nms,
    softnms,
    roi_align_forward,
    roi_align_backward,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
    deform_ops.deform_conv_forward,
    deform_ops.deform_conv_backward_input,
    deform_ops.deform_conv_backward_parameters,
    deform_ops.modulated_deform_conv_forward,
    deform_ops.modulated_deform_conv_backward,
    ms_deform_attn_forward,
    get_compiler_version,
    get_compiling_cuda_version,
)


class _Extension(ModuleType):
    """Module in place of ``mmcv._ext``; an operator that it lacks raises an error when called."""

    def __init__(self) -> None:
        super().__init__(_NAME, __doc__)
        self.__spec__ = ModuleSpec(_NAME, loader=None, origin=__name__)
        for operator in _SERVED:
            setattr(self, operator.__name__, operator)

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("_"):  # Import machinery probes for these; they are not operators.
            raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        return partial(_refuse, name)


def _refuse(operator: str, *_: Any, **__: Any) -> NoReturn:
    raise UnservedOperatorError(
        f"mmcv operator '{operator}' exists only in compiled mmcv and mmcv-lite is installed; "
        f"replace mmcv-lite by mmcv 2.1 compiled for torch {torch.__version__}, for example "
        "`pip install --no-binary mmcv mmcv==2.1.0`, or choose a model that does not use it"
    )


def _require_average(pool_mode: int, operator: str) -> None:
    if pool_mode == _MAX_POOL:
        _refuse(f"{operator} with pool_mode='max'")


def _overlaps(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """Return the IoU (N,) of a box (4,) with boxes (N, 4); 0, not mmcv's NaN, without area."""
    # Opposite corners of the intersection; a negative side means that there is none.
    near, far = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    shared = (far - near + offset).clamp(min=0).prod(dim=1)
    area, areas = ((b[..., 2:] - b[..., :2] + offset).prod(dim=-1) for b in (box, boxes))
    union = area + areas - shared
    return torch.where(union > 0, shared / union, 0)


def _decay(overlap: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    """Return the factors (N,) by which Soft-NMS scales the scores of boxes with these IoUs."""
    if method == _GAUSSIAN:
        return torch.exp(-(overlap**2) / sigma)
    reduced = 1 - overlap if method == _LINEAR else torch.zeros_like(overlap)
    return torch.where(overlap >= iou_threshold, reduced, 1)


def _focal_terms(
    logits: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, their sign towards the target (+1 for its class, else -1), and the scale."""
    (logits,) = common_float(logits)
    classes = logits.shape[1]
    positive = (target[:, None] == torch.arange(classes, device=target.device)).to(logits.dtype)
    scale = alpha * positive + (1 - alpha) * (1 - positive)
    if weight.numel():
        rows = torch.ones_like(target, dtype=logits.dtype)
        # Background has no entry in ``weight``; its rows keep the factor 1.
        foreground = (target >= 0) & (target < classes)
        rows[foreground] = weight[target[foreground]].to(logits.dtype)
        scale = scale * rows[:, None]
    return logits, 2 * positive - 1, scale
