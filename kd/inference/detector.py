"""Interface of a detector that is ready to use, whatever file it comes from."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""An image ``(H, W, 3)``, red first, as Pillow reads it."""


class ImageDetections(NamedTuple):
    """Detections in one image, best first."""

    boxes: NDArray[Any]
    """``(N, 4)``: left, top, right, bottom in pixels of the image."""
    scores: NDArray[Any]
    """``(N,)``"""
    labels: NDArray[Any]
    """``(N,)``: indices of classes."""


class ReadyDetector(Protocol):
    """A trained detector, loaded on a device.

    ``detect`` is ``prepare`` and ``predict`` for images of any sizes. ``kd latency`` times both.
    """

    classes: list[str]
    """Names in label order."""
    size: tuple[int, int]
    """Width and height in pixels that images are resized to, within or exactly."""
    device: str
    """cpu, cuda or cuda:N."""
    runtime: str
    """Library that computes the network, with its version, such as ``torch 2.11.0``."""

    def detect(self, images: Sequence[Image]) -> list[ImageDetections]:
        """Return the detections in each image of a batch; images may differ in size."""
        ...

    def prepare(self, images: Sequence[Image]) -> Any:
        """Return images of one size as they enter the network: resized, in host memory."""
        ...

    def predict(self, batch: Any) -> list[ImageDetections]:
        """Return the detections in a batch of ``prepare``, in host memory.

        It copies the images to the device, normalizes them, runs network and post-processing, and
        copies the detections back.
        """
        ...
