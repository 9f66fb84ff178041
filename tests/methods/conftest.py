"""Fixtures of the tests of methods."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def distil_random_maps(build: Callable[..., Any], batch: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method's losses on random maps in float32, and on their bfloat16 under autocast.

    Features have the magnitude 100. If the teacher's features are wider, an adapter maps to them.
    """
    import torch
    from torch import nn

    from kd.observers import Channels, DenseObservation
    from kd.training.distiller import Distiller

    detector, data = build(), batch()
    strides = (8, 16, 32, 64, 128)
    labeled = DenseObservation(detector, data, frozen=True)
    labeled.losses()

    def random_observation(seed: int, channels: int, dtype: torch.dtype) -> DenseObservation:
        torch.manual_seed(seed)

        def random(like: list[torch.Tensor], deviation: float, channels: int = 0) -> Any:
            shapes = [(len(m), channels or m.shape[1], *m.shape[2:]) for m in like]
            return [(torch.randn(shape) * deviation).to(dtype) for shape in shapes]

        scores, boxes = labeled.outputs
        observation = DenseObservation(detector, data, frozen=False)
        observation.neck = random(labeled.neck, 100, channels)
        observation.outputs = random(scores, 2), random(boxes, 0.3)
        observation.assignment, observation.sampled = labeled.assignment, labeled.sampled
        return observation

    def losses_by_precision(term: Any, channels: int = 16) -> list[dict[str, Any]]:
        torch.manual_seed(0)
        adapters = nn.ModuleDict(
            term.adapters(*(Channels([width] * 5, [], strides) for width in (16, channels)))
        )
        distiller = SimpleNamespace(terms={"term": term}, adapters={"term": adapters})
        losses = []
        for dtype in (torch.float32, torch.bfloat16):
            student = random_observation(1, 16, dtype)
            teachers = {"detector": random_observation(2, channels, dtype)}
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                losses.append(Distiller.distillation(distiller, student, teachers, data))
        return losses

    return losses_by_precision
