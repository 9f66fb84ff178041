"""Two augmentation families of DICOD, for one object: a crop with a margin, and its box.

The crop is augmented as the detector's image is: distorted, expanded, cropped and flipped. The
object is then cut out by its box, as in distillation.
"""

from collections.abc import Callable

from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, Image

Augment = Callable[[Image, BoundingBoxes], tuple[Image, BoundingBoxes]]

MEAN_COLOR = (124, 116, 104)
OVERLAPS = [0.3, 0.5, 0.7, 0.9, 1.0]
"""Minimum IoU of box and random crop, of which one is drawn; 1 means no crop.

SSD also has 0 and 0.1, for whole images. A crop around one object would keep only a corner of it.
"""
TRIALS = 10
"""Random crops to try at one overlap. SSD's 40 or 50 take several times longer for few more."""

_FLIP = v2.RandomHorizontalFlip()
_SSD = v2.Compose(
    [
        v2.RandomPhotometricDistort(),
        v2.RandomZoomOut(fill=MEAN_COLOR, side_range=(1, 4)),
        v2.RandomIoUCrop(sampler_options=OVERLAPS, trials=TRIALS),
        _FLIP,
    ]
)


def general(image: Image, box: BoundingBoxes) -> tuple[Image, BoundingBoxes]:
    """Flip at random, as in training of Faster R-CNN and RetinaNet; image (3, H, W), box (1, 4)."""
    return _FLIP(image, box)


def ssd(image: Image, box: BoundingBoxes) -> tuple[Image, BoundingBoxes]:
    """Distort colors, expand up to 4 times, crop and flip; image (3, H, W), box (1, 4).

    The result is resized to (H, W), as SSD resizes to one size, so an expanded image loses detail.
    """
    size = list(image.shape[-2:])
    image, box = _SSD(image, box)
    return F.resize(image, size, antialias=False), F.resize(box, size)


AUGMENTATIONS: dict[str, Augment] = {"general": general, "ssd": ssd}
