"""Transforms of mixed images that mmdet lacks or builds from tuples only."""

from typing import Any

from mmdet.datasets.transforms import MixUp, Pad
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PadInto(Pad):
    """Padding of an image on the right and below to ``width`` x ``height`` pixels.

    ``value``: of the padded pixels in each channel, 0 to 255.
    """

    def __init__(self, width: int, height: int, value: int) -> None:
        super().__init__(size=(width, height), pad_val={"img": (value,) * 3})


@TRANSFORMS.register_module()
class MixUpOfMosaics(MixUp):
    """MixUp of RTMDet: the other image has gone through the transforms before this one.

    ``prob``: share of samples that are mixed. mmdet's ``CachedMixUp`` takes the other image from
    the last samples of the loading process.
    """

    def __init__(self, prob: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.prob = prob
