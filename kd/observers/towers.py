"""Stacked convolutions of a dense head: their outputs, and the rest of a head on other features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from kd.observers.branches import box_branch, branches_of, class_branch


class Towers(NamedTuple):
    """Features of both branches of a head by number of convolutions, then by level."""

    classes: list[list[Tensor]]
    """(B, C, H, W) each; the first entry holds the neck's maps, before any convolution."""
    boxes: list[list[Tensor]]


class Stacks(NamedTuple):
    """Stacked convolutions of a head's branches."""

    classes: nn.ModuleList
    boxes: nn.ModuleList


def stacks_of(head: Any) -> Stacks | None:
    """Return the stacked convolutions of a head; None if its branches share layers."""
    branches = branches_of(head)
    return Stacks(head.cls_convs, head.reg_convs) if branches else None


@contextmanager
def recording(head: Any, neck: list[Tensor]) -> Iterator[Towers | None]:
    """Record the features of a head's stacked convolutions in a block that runs the head once."""
    stacks = stacks_of(head)
    if stacks is None:
        yield None
        return
    towers = Towers([neck], [neck])
    with ExitStack() as stack:
        for convolutions, features in zip(stacks, towers, strict=True):
            for layer in convolutions:
                maps: list[Tensor] = []
                features.append(maps)
                # A head runs level by level.
                hook = layer.register_forward_hook(
                    lambda _module, _inputs, output, maps=maps: maps.append(output)
                )
                stack.callback(hook.remove)
        yield towers


def towers_of(head: Any, neck: list[Tensor]) -> Towers:
    """Return the features of a head's stacked convolutions on the neck's maps."""
    stacks = stacks_of(head)
    assert stacks is not None
    towers = Towers([neck], [neck])
    for convolutions, features in zip(stacks, towers, strict=True):
        for layer in convolutions:
            features.append([layer(maps) for maps in features[-1]])
    return towers


def rest_of_head(
    head: Any, layers: int, class_features: list[Tensor], box_features: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return class maps and box maps by level of the last layers of a head.

    ``layers``: number of its stacked convolutions, before the predictors, that the features go
    through. The maps of a head's own features are bit-identical to its outputs.
    """
    branches = branches_of(head)
    assert branches is not None
    with _shortened(head, layers):
        return (
            class_branch(head, branches, class_features),
            box_branch(head, branches, box_features),
        )


@contextmanager
def _shortened(head: Any, layers: int) -> Iterator[None]:
    """Remove the first convolutions of both stacks in a block, so that ``layers`` remain."""
    stacks = head.cls_convs, head.reg_convs
    head.cls_convs, head.reg_convs = (
        nn.ModuleList(list(stack)[len(stack) - layers :]) for stack in stacks
    )
    try:
        yield
    finally:
        head.cls_convs, head.reg_convs = stacks
