"""Measures of labeled images that a proposal is derived from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TypeVar

from kd.data.entry import SplitName
from kd.start.samples import Sample

Number = TypeVar("Number", int, float)

FEW_BOXES = 10
"""Boxes of a class in a split, below which its AP is a matter of chance."""
HALF_WIDTH, REFERENCE_IMAGES = 2.0, 72
"""Half of the 95 % interval of a gain of one seed over resampled test images, in AP points, and
the test images of BCCD: two gains had 1.8 and 2.2 (docs/tutorials/own-data.md)."""
WIDE_INTERVAL = 1.0
"""Half of an interval, in AP points, from which a warning is printed: papers report gains of 0.5
to 3 points."""
MIXED_SHARE = 0.05


@dataclass(frozen=True)
class Measures:
    """Sizes and numbers of the images and objects of a folder."""

    train_images: int
    """Training images with an object, which an epoch passes through."""
    test_images: int
    classes: int
    image_size: tuple[int, int]
    """Median of the longer and of the shorter side of the images, in pixels."""
    small: float
    """Side of an object (root of its area) that 5 % are smaller than, as a share of the longer side
    of its image."""
    tenth: float
    """The side that 10 % are smaller than."""
    large: float
    """The side that 99 % are smaller than."""
    mixes_aspects: bool
    """True if at least 5 % of the training images are wide, and at least 5 % tall."""
    rare: dict[SplitName, list[str]]
    """Classes with fewer than 10 boxes by split."""

    @property
    def half_width(self) -> float:
        """Expected half of the interval of a gain over test images, in AP points."""
        return HALF_WIDTH * sqrt(REFERENCE_IMAGES / max(self.test_images, 1))

    @property
    def test_is_small(self) -> bool:
        """True if the test split can hardly show the gains that papers report."""
        return self.half_width > WIDE_INTERVAL


def measure(splits: dict[SplitName, list[Sample]], classes: Sequence[str]) -> Measures:
    """Return the measures of splits with at least one box."""
    samples = [sample for members in splits.values() for sample in members]
    sides = sorted(
        sqrt(box.xywh[2] * box.xywh[3]) / max(sample.size)
        for sample in samples
        for box in sample.boxes
    )
    train = [sample for sample in splits["train"] if sample.boxes]
    wide = sum(sample.size[0] > sample.size[1] for sample in train)
    tall = sum(sample.size[0] < sample.size[1] for sample in train)
    return Measures(
        train_images=len(train),
        test_images=len(splits["test"]),
        classes=len(classes),
        image_size=(
            _share([max(sample.size) for sample in samples], 0.5),
            _share([min(sample.size) for sample in samples], 0.5),
        ),
        small=_share(sides, 0.05),
        tenth=_share(sides, 0.1),
        large=_share(sides, 0.99),
        mixes_aspects=min(wide, tall) >= MIXED_SHARE * max(len(train), 1),
        rare={split: _rare(members, classes) for split, members in splits.items()},
    )


def _share(values: Sequence[Number], share: float) -> Number:
    """Return the value that a share of all is smaller than."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _rare(samples: Sequence[Sample], classes: Sequence[str]) -> list[str]:
    counts = Counter(box.name for sample in samples for box in sample.boxes)
    return [name for name in classes if counts[name] < FEW_BOXES]
