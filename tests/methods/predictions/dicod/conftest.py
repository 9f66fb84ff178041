"""Two images and five candidates for the tests of DICOD."""

from typing import Any

import pytest
import torch

from kd.observers import Batch
from tests.methods.predictions.dicod.dicod_scene import labeled_batch, student_of


@pytest.fixture
def data() -> Batch:
    """Return two noise images of 40 x 48 pixels, with two objects and with one."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 40, 48, generator=generator)
    return labeled_batch(images, [[4, 4, 24, 30], [20, 10, 44, 36]], [[8, 8, 40, 32]])


@pytest.fixture
def student() -> Any:
    """Return five candidates: one of each object, a second of object 1, and one of background."""
    generator = torch.Generator().manual_seed(1)
    boxes = [[5, 3, 25, 33], [18, 12, 40, 34], [1, 1, 9, 9], [22, 8, 44, 39], [6, 10, 35, 30]]
    logits = torch.randn(5, 3, generator=generator)
    return student_of(torch.tensor(boxes).float(), [0, 0, 0, 0, 1], [0, 1, -1, 1, 2], logits)
