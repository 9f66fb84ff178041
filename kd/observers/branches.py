"""Separate forward passes of a frozen dense head's class branch and box branch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn


class Branches(NamedTuple):
    """Names of modules that only a head's class maps need, only its box maps, and neither."""

    classes: tuple[str, ...]
    boxes: tuple[str, ...]
    neither: tuple[str, ...] = ()


_BRANCHES = {
    "RetinaHead": Branches(("cls_convs", "retina_cls"), ("reg_convs", "retina_reg")),
    "ATSSHead": Branches(
        ("cls_convs", "atss_cls"), ("reg_convs", "atss_reg"), ("atss_centerness",)
    ),
    "GFLHead": Branches(("cls_convs", "gfl_cls"), ("reg_convs", "gfl_reg")),
    "FCOSHead": Branches(
        ("cls_convs", "conv_cls"), ("reg_convs", "conv_reg"), ("conv_centerness",)
    ),
}
"""Branches by the mmdet class that defines a head's ``forward_single``."""


def branches_of(head: nn.Module) -> Branches | None:
    """Return the branches of a head; None if classes and boxes share layers."""
    forward = getattr(type(head), "forward_single", None)
    branches = _BRANCHES.get(forward.__qualname__.partition(".")[0]) if forward else None
    if branches is None or not all(hasattr(head, name) for names in branches for name in names):
        return None
    return branches


def class_branch(head: nn.Module, branches: Branches, neck: list[Tensor]) -> list[Tensor]:
    """Return the class maps by level, bit-identical to those of the whole head."""
    with _without(head, branches.boxes + branches.neither):
        return list(head(tuple(neck))[0])


def box_branch(head: nn.Module, branches: Branches, neck: list[Tensor]) -> list[Tensor]:
    """Return the box maps by level, bit-identical to those of the whole head."""
    with _without(head, branches.classes + branches.neither):
        return list(head(tuple(neck))[1])


@contextmanager
def _without(head: Any, names: tuple[str, ...]) -> Iterator[None]:
    """Replace modules of a head in a block: stacks of layers by none, predictors by empty maps."""
    modules = {name: getattr(head, name) for name in names}
    for name, module in modules.items():
        setattr(head, name, nn.ModuleList() if isinstance(module, nn.ModuleList) else _EmptyMaps())
    try:
        yield
    finally:
        for name, module in modules.items():
            setattr(head, name, module)


class _EmptyMaps(nn.Module):
    """Module from maps (B, C, H, W) to maps (B, 0, H, W)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps[:, :0]
