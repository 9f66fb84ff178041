"""Reader of YOLO labels: a text file for each image, ``class x y width height`` in each line.

The box is its center and size as fractions of the image, after its EXIF orientation is applied, as
Ultralytics reads it. hotcoco's reader is not used: it refuses ``names`` as a mapping, accepts NaN
and pixels, ignores the orientation, and returns file names without their suffix.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kd.common.errors import UserError
from kd.start.folder import Folder
from kd.start.formats.yolo_entry import (
    YoloEntry,
    name_lists,
    read_entry,
    read_text,
    split_images,
    yolo_entries,
)
from kd.start.labels import Box, Faults, LabeledBox, LabeledImage, Labels

TOLERANCE = 0.01
"""Fraction of the image by which rounding may move an edge outside."""
NOT_LABELS = ("readme", "classes", "predefined_classes", "notes", "license", "requirements")


class LineError(Exception):
    """A malformed line of a label file; the text names the reason and the remedy."""


def evidence(folder: Folder) -> Path | None:
    """Return a file by which YOLO's format is recognized, or None."""
    entries = [*yolo_entries(folder), *name_lists(folder)]
    if entries:
        return entries[0]
    return next(iter(_label_files(folder)), None)


def read(folder: Folder) -> Labels:
    """Return the labels of a folder; UserError if they are malformed."""
    entry = read_entry(folder)
    labels = Labels("YOLO", entry.classes, [])
    splits = split_images(folder, entry, labels)
    images = {path: folder.split_of(path) for path in folder.images}
    if splits is not None:
        for path in sorted(images.keys() - splits.keys()):
            labels.leave_out("images outside of the splits of data.yaml", path)
        images = splits
    _require_different_stems(folder, images)
    label_files, faults = _LabelFiles(folder), Faults()
    for path, split in sorted(images.items()):
        source = label_files.of(path)
        image = LabeledImage(path, source or path, split=split, unit="fractions")
        if source is None:
            labels.note("images without a label file, used as images without objects", path)
        else:
            _read_file(source, image, entry, labels, faults)
        labels.images.append(image)
    faults.refuse()
    for path in label_files.unused(folder.images):
        labels.leave_out("label files without an image", path)
    if all(image.source == image.path for image in labels.images):
        raise UserError(
            f"{folder.root}: no label file belongs to an image; put labels beside the images, or "
            "in 'labels' beside 'images', with the same names"
        )
    return labels


def _require_different_stems(folder: Folder, images: Mapping[Path, object]) -> None:
    for same in folder.images_by_stem.values():
        if len(same) > 1 and {*same} <= images.keys():
            raise UserError(
                f"{same[0]}: {same[1].name} has the same name, so both have the same label file; "
                "rename one, or remove it"
            )


def _label_files(folder: Folder) -> list[Path]:
    """Return the text files that may hold labels: in ``labels``, or beside their image."""
    return [
        path
        for path in folder.of(".txt")
        if not path.stem.lower().startswith(NOT_LABELS)
        and (
            "labels" in path.relative_to(folder.root).parts[:-1]
            or path.with_suffix("") in folder.images_by_stem
        )
    ]


class _LabelFiles:
    """Label files of a folder, and those that belong to an image."""

    def __init__(self, folder: Folder) -> None:
        self.root = folder.root
        self.files = {*folder.of(".txt")}
        self.candidates = _label_files(folder)

    def of(self, image: Path) -> Path | None:
        """Return the label file of an image, or None."""
        relative = image.relative_to(self.root).with_suffix(".txt")
        parts = list(relative.parts)
        places = [image.with_suffix(".txt"), self.root / "labels" / relative]
        if "images" in parts[:-1]:
            index = len(parts) - 1 - parts[::-1].index("images")
            places.insert(0, self.root / Path(*parts[:index], "labels", *parts[index + 1 :]))
        for place in places:
            if place in self.files:
                return place
        return None

    def unused(self, images: Iterable[Path]) -> list[Path]:
        """Return the label files that belong to none of the images."""
        used = {*map(self.of, images)}
        return [path for path in self.candidates if path not in used]


def _read_file(
    source: Path, image: LabeledImage, entry: YoloEntry, labels: Labels, faults: Faults
) -> None:
    """Read the boxes of an image."""
    try:
        text = read_text(source)
    except UserError as error:
        place, _, reason = str(error).partition(": ")
        faults.add(place, reason)
        return
    earlier_lines: set[tuple[float, ...]] = set()
    for number, line in _lines(text):
        place = f"{source}: line {number}"
        try:
            label, numbers = _numbers(line)
            _check_class(label, entry)
            box, from_outline = _box(numbers, "kpt_shape" in entry.keys)
        except LineError as error:
            faults.add(place, str(error))
            continue
        key = (label, *box)
        if key in earlier_lines:
            labels.leave_out("repeated lines", place)
        elif box[2] == 0 or box[3] == 0:
            labels.leave_out("boxes without area", place)
        else:
            earlier_lines.add(key)
            image.boxes.append(LabeledBox(entry.classes[label], box, f"line {number}"))
            if from_outline:
                labels.note("outlines or rotated boxes, replaced by the boxes around them", place)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line


def _numbers(line: str) -> tuple[int, list[float]]:
    """Return the class and the other numbers of a line."""
    words = line.split()
    try:
        label, *numbers = map(float, words)
    except ValueError:
        raise LineError(
            f"must be numbers with spaces between them, not {line.strip()[:40]!r}; correct it"
        ) from None
    if not all(map(math.isfinite, (label, *numbers))):
        raise LineError(f"{line.strip()[:40]!r} has a number that is not finite; correct it")
    if len(words) < 5:
        raise LineError(
            f"has {len(words)} numbers; a box has 5: class, x, y, width and height; complete it"
        )
    if label < 0 or label % 1:
        raise LineError(f"class {words[0]} is not a whole number from 0; correct it")
    return int(label), numbers


def _check_class(label: int, entry: YoloEntry) -> None:
    if label >= len(entry.classes):
        raise LineError(
            f"class {label}, but {entry.path.name} names the classes 0 to "
            f"{len(entry.classes) - 1}; correct the line, or add the name"
        )


def _box(numbers: list[float], has_keypoints: bool) -> tuple[Box, bool]:
    """Return left, top, width and height as fractions, and True if an outline was given."""
    numbers = numbers[:4] if has_keypoints else numbers
    if len(numbers) == 4:
        x, y, width, height = numbers
        _check_fractions(numbers)
        return (x - width / 2, y - height / 2, width, height), False
    if len(numbers) == 5:
        raise LineError(
            "has 6 numbers, as detections with a confidence have; a box has 5; remove the sixth if "
            "these are labels"
        )
    if len(numbers) % 2:
        raise LineError(
            f"has {len(numbers) + 1} numbers; a box has 5, and an outline a class and pairs of x "
            "and y; complete it"
        )
    _check_fractions(numbers)
    across, down = ([min(max(v, 0.0), 1.0) for v in numbers[start::2]] for start in (0, 1))
    left, top = min(across), min(down)
    return (left, top, max(across) - left, max(down) - top), True


def _check_fractions(numbers: list[float]) -> None:
    largest, smallest = max(numbers), min(numbers)
    if len(numbers) == 4 and min(numbers[2:]) < 0:
        raise LineError(f"width or height is negative ({min(numbers[2:]):g}); correct it")
    if smallest < -TOLERANCE:
        raise LineError(f"{smallest:g} is negative; coordinates are fractions from 0 to 1")
    if largest > 1 + TOLERANCE:
        raise LineError(
            f"{largest:g} is above 1; coordinates are fractions of the image's width and height; "
            "divide pixels by them"
        )
