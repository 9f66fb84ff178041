"""Fixtures of the tests of the profiler."""

from typing import Any

import pytest


@pytest.fixture
def ballast(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make every step of distillation hold a block of 64 MB and return its bytes.

    The other tensors of a tiny step take about 2 MB, of which a convolution's workspace depends on
    the processor. The block makes the step's peak a property of the step alone.
    """
    import torch

    from kd.training.distiller import Distiller

    size, distillation = 2**26, Distiller.distillation

    def with_block(self: Distiller, *arguments: Any) -> Any:
        block = torch.empty(size, dtype=torch.uint8)
        losses = distillation(self, *arguments)
        del block
        return losses

    monkeypatch.setattr(Distiller, "distillation", with_block)
    return size
