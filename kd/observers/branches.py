"""The two branches of a frozen dense head, each run without the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn


class Branches(NamedTuple):
    """Names of a head's parts that only its class maps need, only its box maps, and neither."""

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
"""By the class of mmdet whose ``forward_single`` a head has."""


def branches_of(head: nn.Module) -> Branches | None:
    """Return the branches of a head; None where classes and boxes have layers in common."""
    forward = getattr(type(head), "forward_single", None)
    found = _BRANCHES.get(forward.__qualname__.partition(".")[0]) if forward else None
    return found if found and all(hasattr(head, name) for part in found for name in part) else None


def class_branch(head: nn.Module, branches: Branches, neck: list[Tensor]) -> list[Tensor]:
    """Return the class maps by level, to the bit those of the whole head."""
    with _without(head, branches.boxes + branches.neither):
        return list(head(tuple(neck))[0])


def box_branch(head: nn.Module, branches: Branches, neck: list[Tensor]) -> list[Tensor]:
    """Return the box maps by level, to the bit those of the whole head."""
    with _without(head, branches.classes + branches.neither):
        return list(head(tuple(neck))[1])


@contextmanager
def _without(head: Any, names: tuple[str, ...]) -> Iterator[None]:
    """Leave parts out of a head for a while: stacks of layers, and what predicts from them."""
    kept = {name: getattr(head, name) for name in names}
    for name, part in kept.items():
        setattr(head, name, nn.ModuleList() if isinstance(part, nn.ModuleList) else _Nothing())
    try:
        yield
    finally:
        for name, part in kept.items():
            setattr(head, name, part)


class _Nothing(nn.Module):
    """From maps (B, C, H, W) to maps (B, 0, H, W)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps[:, :0]
