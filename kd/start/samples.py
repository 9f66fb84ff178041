"""Usable images of a folder: their boxes in pixels, without those that training cannot use."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kd.common.errors import UserError
from kd.data.entry import SplitName
from kd.data.scan import is_useless
from kd.start.labels import Faults, LabeledBox, LabeledImage, Labels
from kd.start.pictures import Picture


@dataclass
class Sample:
    """An image that can be decoded, with its boxes in pixels."""

    path: Path
    size: tuple[int, int]
    """Width and height in pixels."""
    boxes: list[LabeledBox]
    split: SplitName | None = None

    @property
    def names(self) -> set[str]:
        """The classes of its objects."""
        return {box.name for box in self.boxes}


def samples_of(labels: Labels, pictures: dict[Path, Picture]) -> list[Sample]:
    """Return the usable images in order of their paths.

    Images that cannot be decoded and boxes without area, outside of the image, or repeated are left
    out and recorded in ``labels``. UserError if the stated size of an image is not that of its
    file, or if no box is left.
    """
    faults, samples = Faults(), list[Sample]()
    for image in sorted(labels.images, key=lambda image: image.path):
        picture = pictures[image.path]
        if picture.fault:
            labels.leave_out(f"images that cannot be read ({_short(picture.fault)})", image.path)
            continue
        if image.size and image.size != picture.size:
            faults.add(image.source, _size_fault(image, picture))
            continue
        boxes = _in_pixels(image, picture.size)
        samples.append(
            Sample(image.path, picture.size, _usable(boxes, image, picture, labels), image.split)
        )
    faults.refuse()
    if not samples:
        first = next(iter(labels.images))
        raise UserError(
            f"{first.path}: {pictures[first.path].fault}; no labeled image can be read; replace "
            "the image files"
        )
    if not any(sample.boxes for sample in samples):
        raise UserError(
            f"{labels.images[0].source}: no usable box in it or in the other label files; label "
            "the objects"
        )
    return samples


def _short(fault: str) -> str:
    return fault.removeprefix("the image cannot be read: ").partition(";")[0]


def _size_fault(image: LabeledImage, picture: Picture) -> str:
    assert image.size
    labeled_size, size = (f"{one[0]} x {one[1]}" for one in (image.size, picture.size))
    if picture.is_turned and image.size == picture.stored_size:
        return (
            f"{image.path.name} is turned to {size} pixels by its EXIF orientation, but was "
            f"labeled unturned ({labeled_size}); remove the orientation from the image"
        )
    return (
        f"states {labeled_size} pixels for {image.path.name}, which has {size}; label this image, "
        "or put the labeled one there"
    )


def _in_pixels(image: LabeledImage, size: tuple[int, int]) -> Sequence[LabeledBox]:
    """Return the boxes of an image in pixels; ``size``: its width and height."""
    if image.unit == "pixels":
        return image.boxes
    width, height = size
    return [
        box._replace(
            xywh=(
                box.xywh[0] * width,
                box.xywh[1] * height,
                box.xywh[2] * width,
                box.xywh[3] * height,
            )
        )
        for box in image.boxes
    ]


def _usable(
    boxes: Sequence[LabeledBox], image: LabeledImage, picture: Picture, labels: Labels
) -> list[LabeledBox]:
    """Return boxes with an area in the image, each once; record the others."""
    record = {"width": picture.size[0], "height": picture.size[1]}
    usable: dict[tuple[object, ...], LabeledBox] = {}
    for box in boxes:
        place = f"{image.source}: {box.where}"
        if min(box.xywh[2:]) <= 0:
            labels.leave_out("boxes without area", place)
        elif is_useless([*box.xywh], record):
            labels.leave_out("boxes outside of their image", place)
        elif (box.name, *box.xywh) in usable:
            labels.leave_out("repeated boxes", place)
        else:
            usable[box.name, *box.xywh] = box
            x, y, width, height = box.xywh
            beyond = max(-x, -y, x + width - record["width"], y + height - record["height"])
            if beyond > 1:
                labels.note("boxes that stick out of their image by more than a pixel", place)
    return list(usable.values())


def boxes_per_class(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, int]:
    """Return the number of boxes of each class."""
    counts = Counter(box.name for sample in samples for box in sample.boxes)
    return {name: counts[name] for name in classes}
