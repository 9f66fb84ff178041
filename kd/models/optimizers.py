"""Optimizer wrapper: precision of the forward pass, gradient clipping and fused updates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

NORMALIZATIONS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
OFFSETS = ".conv_offset."
"""Part of the names of a deformable convolution's offsets, whose biases are trained as weights."""
FUSED = {"SGD", "AdamW"}
"""Optimizers whose step torch computes in one kernel, on the CPU and on CUDA."""

Precision = Literal["float32", "bfloat16", "float16"]


@OPTIM_WRAPPERS.register_module()
class PreciseOptimWrapper(OptimWrapper):
    """Optimizer wrapper for float32 weights and a forward pass in ``precision``, on any device.

    In float16 the loss is scaled, and a step whose gradients overflow is skipped. The scale is part
    of the state. Unlike mmengine's, this wrapper does not read the norm of the clipped gradients:
    reading it waits for the GPU, and mmengine copies the history of norms at each step.
    """

    def __init__(self, precision: Precision = "float32", **settings: Any) -> None:
        super().__init__(**settings)
        self.dtype = None if precision == "float32" else getattr(torch, precision)
        self.scaler = torch.amp.GradScaler(self._device, enabled=self.dtype is torch.float16)

    @property
    def _device(self) -> str:
        return self.optimizer.param_groups[0]["params"][0].device.type

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run a forward pass in this precision."""
        with (
            super().optim_context(model),
            torch.autocast(self._device, self.dtype, enabled=self.dtype is not None),
        ):
            yield

    def backward(self, loss: Tensor, **options: Any) -> None:
        super().backward(self.scaler.scale(loss), **options)

    def step(self, **options: Any) -> None:
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **options)
        self.scaler.update()

    def _clip_grad(self) -> None:
        self.clip_func(
            [value for group in self.optimizer.param_groups for value in group["params"]],
            **self.clip_grad_kwargs,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and, in float16, the scale of the loss."""
        scale = {"loss_scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        return {**super().state_dict(), **scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state.pop("loss_scaler"))
        super().load_state_dict(state)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TwoParameterGroups(DefaultOptimWrapperConstructor):
    """Constructor of an optimizer that updates biases otherwise than weights.

    The parameters are those that mmengine selects by ``norm_decay_mult: 0, bias_decay_mult: 0``:
    normalization layers and biases have no weight decay. By ``bias_lr_mult, bias_decay_mult: 0``
    biases have no weight decay, and those of layers other than normalization have another rate, in
    a third group. mmengine's constructor makes a group of each parameter, and an optimizer updates
    group by group.
    """

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: Any = None,
    ) -> None:
        """Append a group for each rate and weight decay to ``params``; that of weights is first."""
        norms = (layer for layer in module.modules() if isinstance(layer, NORMALIZATIONS))
        of_norms = {id(value) for layer in norms for value in layer.parameters(recurse=False)}
        bias_rate = self.paramwise_cfg.get("bias_lr_mult")
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {
            (True, False): [],
            (False, False): [],
            (False, True): [],
        }
        for name, value in module.named_parameters():
            if not value.requires_grad:
                continue
            is_bias, is_norm = name.rpartition(".")[2] == "bias", id(value) in of_norms
            if bias_rate is None:
                groups[not is_bias and not is_norm, False].append(value)
            elif not is_bias or OFFSETS in f".{name}":
                groups[True, False].append(value)
            else:
                groups[False, not is_norm].append(value)
        for (is_decayed, has_bias_rate), values in groups.items():
            if not values:
                continue
            decay = {} if is_decayed else {"weight_decay": 0.0}
            rate = {"lr": self.base_lr * bias_rate} if has_bias_rate else {}
            params += [{"params": values, **decay, **rate}]


def fastest(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a composed ``optim_wrapper`` with this wrapper and a fused optimizer.

    A fused step differs from a plain one by the rounding of float32. A checkpoint holds which of
    them its run began with, and the resumed run uses the same.
    """
    optimizer = settings["optimizer"]
    fused = {"fused": True} if optimizer["type"] in FUSED else {}
    return {
        **settings,
        "type": PreciseOptimWrapper.__name__,
        "optimizer": {**optimizer, **fused},
    }
