"""Losses of presets on golden inputs, for the comparison with published code."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kd.config.library import Library
from kd.config.terms import method_of, resolve
from kd.methods.base import Losses, Method
from kd.observers import Channels
from tests.support.paths import CONFIGS

LIBRARY = Library(CONFIGS)


def preset_method(preset: str, detector: str = "retinanet", **settings: Any) -> Method:
    """Return the method that a shipped preset configures, with some settings overridden."""
    (resolved,) = resolve(preset, {preset: settings}, detector, LIBRARY, "published").values()
    return method_of(resolved)


def widths(maps: list[Tensor], strides: list[int]) -> Channels:
    """Return the widths of neck maps (B, C, H, W) by level."""
    return Channels([level.shape[1] for level in maps], [], tuple(strides))


def levels(inputs: dict[str, Tensor], side: str) -> list[Tensor]:
    """Return the inputs ``<side>0``, ``<side>1``, ... in order."""
    names = [name for name in inputs if name.removeprefix(side).isdigit()]
    return [inputs[f"{side}{level}"] for level in range(len(names))]


class _Term(nn.Module):
    """A method with its learned layers as a module, whose weights ``functional_call`` replaces."""

    def __init__(self, method: Method, adapters: dict[str, nn.Module]) -> None:
        super().__init__()
        self.method, self.adapters = method, nn.ModuleDict(adapters).double()

    def forward(self, student: Any, teacher: Any, batch: Any) -> Losses:
        return self.method.losses(student, teacher, batch, self.adapters)


def layer_shapes(adapters: dict[str, nn.Module]) -> dict[str, torch.Size]:
    """Return the shape of each parameter of learned layers by name, in the order of names."""
    parameters = sorted(nn.ModuleDict(adapters).named_parameters())
    return {name: parameter.shape for name, parameter in parameters}


def split_weights(weights: Tensor, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return the parameters that a vector of weights holds, one after another."""
    parts = weights.split([shape.numel() for shape in shapes.values()])
    return {
        name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def losses(
    method: Method, student: Any, teacher: Any, batch: Any, channels: Any, weights: Tensor | None
) -> dict[str, Tensor]:
    """Return the terms of a method as scalars, with the weights (n,) of its layers.

    ``channels``: the widths of student and teacher.
    """
    term = _Term(method, method.adapters(*channels))
    shapes = layer_shapes(dict(term.adapters))
    parts = {} if weights is None else split_weights(weights, shapes)
    assert parts.keys() == shapes.keys()
    state = {f"adapters.{name}": part for name, part in parts.items()}
    return summed(functional_call(term, state, (student, teacher, batch)))


def summed(losses: Losses) -> dict[str, Tensor]:
    """Return the terms as scalars, summed over levels."""
    return {name: total(value) for name, value in losses.items()}


def total(value: Tensor | list[Tensor]) -> Tensor:
    """Return the sum of a term over levels, a scalar."""
    return torch.stack(value).sum() if isinstance(value, list) else value
