"""Precision in which distillation terms are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """Return values of half precision (float16, bfloat16) in float32, and others unchanged.

    Networks may run in half precision; sums of squares over their maps would overflow or lose
    digits there. Tensors of float64 keep their type, so that losses can be checked in it.
    """
    return values.float() if values.dtype.itemsize < 4 else values
