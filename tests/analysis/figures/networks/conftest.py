"""Fixtures of figures: detectors whose predictions vary."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def detector(build: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that builds a tiny detector with varied predictions above the threshold."""

    def load(family: str, seed: int = 0) -> Any:
        import torch

        model = build(family, seed)
        torch.manual_seed(seed + 1)
        with torch.no_grad():
            for name, parameter in model.bbox_head.named_parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
                if "cls" in name and name.endswith("bias"):
                    parameter.add_(2.5)  # focal losses start with a probability of 0.01
        return model.eval()

    return load
