"""Checking a data set completely: every problem at once, each with its file."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd.data.images import bad_images, shared_images
from kd.data.readers import scan
from kd.data.scan import Problem, Scan, absence
from kd.errors import suggest
from kd.settings.datasets import Dataset

SMALL, MEDIUM = 32**2, 96**2  # COCO's upper bounds of a box's area, square pixels
SHOWN = 10  # problems of a kind in the text; the JSON has all
SHOWN_CLASSES = 20
TOLERATED_OVERLAP = 0.01  # of the test images: published benchmarks hold a few copies too


@dataclass(frozen=True)
class Counts:
    """What a split holds, boxes that are left out not counted; sizes by area as COCO bins them."""

    images: int
    images_without_boxes: int
    boxes: int
    boxes_per_class: dict[str, int]
    small: int
    medium: int
    large: int


@dataclass(frozen=True)
class Report:
    """The result of a check: ``errors`` stop the plan, ``dirt`` is left out, ``notes`` are kept."""

    name: str
    root: str
    errors: list[Problem]
    dirt: list[Problem]
    notes: list[Problem]
    splits: dict[str, Counts]
    fingerprint: str

    @property
    def usable(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def to_json(self) -> dict[str, Any]:
        """Return everything, as JSON values."""
        problems = {
            kind: [problem._asdict() for problem in getattr(self, kind)]
            for kind in ("errors", "dirt", "notes")
        }
        splits = {name: asdict(counts) for name, counts in self.splits.items()}
        return {
            "name": self.name,
            "root": self.root,
            "usable": self.usable,
            **problems,
            "splits": splits,
            "fingerprint": self.fingerprint,
        }

    def describe(self) -> str:
        """Return the report as text, long lists shortened."""
        verdict = "usable" if self.usable else f"NOT usable, errors: {len(self.errors)}"
        lines = [f"Data set '{self.name}' at '{self.root}': {verdict}"]
        lines += [_describe_split(name, counts) for name, counts in self.splits.items()]
        lines += _shortened("Errors", self.errors)
        lines += _shortened("Left out", self.dirt)
        lines += _shortened("Notes", self.notes)
        return "\n".join([*lines, f"Fingerprint: {self.fingerprint}"])


def check(name: str, dataset: Dataset) -> Report:
    """Read every annotation and decode every image of both splits; raises nothing for bad data."""
    root = Path(dataset.root)
    if not root.is_dir():
        missing = Problem(dataset.root, absence(dataset, root, "folder"))
        return Report(name, dataset.root, [missing], [], [], {}, _fingerprint({}))
    train = scan(dataset, "train", dataset.classes)
    names = dataset.classes or [category["name"] for category in train.categories]
    scans = {"train": train, "test": scan(dataset, "test", names or None)}
    errors = [problem for found in scans.values() for problem in found.errors]
    for split, found in scans.items():
        errors += bad_images(found, f"checking {name}/{split}")
    errors += _stale(name, dataset)
    notes = [problem for found in scans.values() for problem in found.notes]
    shared = list(shared_images(train, scans["test"]))
    tolerated = len(shared) <= TOLERATED_OVERLAP * len(scans["test"].images)
    (notes if tolerated else errors).extend(shared)
    for problem, serious in _unused_classes(dataset, names, scans):
        (errors if serious else notes).append(problem)
    return Report(
        name,
        dataset.root,
        list(dict.fromkeys(errors)),  # one file can be wrong in both splits
        [problem for found in scans.values() for problem in found.dropped],
        notes,
        {split: _count(found) for split, found in scans.items()},
        _fingerprint(scans),
    )


def _fingerprint(scans: dict[str, Scan]) -> str:
    parts = "".join(f"{split} {found.fingerprint()}\n" for split, found in scans.items())
    return hashlib.sha256(parts.encode()).hexdigest()


def _stale(name: str, dataset: Dataset) -> Iterator[Problem]:
    if dataset.generate:
        from kd.data.shapes import is_generated

        if not is_generated(dataset.generate, Path(dataset.root)):
            reason = "the built-in data set is incomplete, or of other settings or another version"
            yield Problem(dataset.root, f"{reason}; draw it again: kd data {name}")


def _unused_classes(
    dataset: Dataset, names: list[str], scans: dict[str, Scan]
) -> Iterator[tuple[Problem, bool]]:
    """Yield each class without a box in a split, and whether that is an error.

    It is one for a VOC class that neither split knows: VOC has no list of its own to compare with,
    so this is how a misspelt name shows.
    """
    if any(found.errors for found in scans.values()):
        return  # what could not be read may hold the class
    counts = {split: _per_class(found) for split, found in scans.items()}
    unlisted = {name for found in scans.values() for name in found.unlisted}
    for name in names:
        without = [split for split in scans if not counts[split].get(name)]
        if len(without) == 2 and dataset.format == "voc":
            hint = f"; {suggest(name, unlisted)}" if unlisted else ""
            yield Problem(dataset.root, f"class '{name}' has no box in either split{hint}"), True
        elif without:
            missing = " and ".join(f"'{split}'" for split in without)
            yield Problem(dataset.root, f"class '{name}' has no box in split {missing}"), False


def _per_class(found: Scan) -> dict[str, int]:
    counts = Counter(annotation["category_id"] for annotation in found.annotations)
    return {category["name"]: counts[category["id"]] for category in found.categories}


def _count(found: Scan) -> Counts:
    areas = [annotation["area"] for annotation in found.annotations]
    small = sum(area < SMALL for area in areas)
    large = sum(area >= MEDIUM for area in areas)
    with_boxes = {annotation["image_id"] for annotation in found.annotations}
    return Counts(
        images=len(found.images),
        images_without_boxes=len(found.images) - len(with_boxes),
        boxes=len(areas),
        boxes_per_class=_per_class(found),
        small=small,
        medium=len(areas) - small - large,
        large=large,
    )


def _describe_split(name: str, counts: Counts) -> str:
    per_class = sorted(counts.boxes_per_class.items(), key=lambda item: -item[1])
    classes = ", ".join(f"{key} {value}" for key, value in per_class[:SHOWN_CLASSES])
    more = len(per_class) - SHOWN_CLASSES
    classes += f", and {more} classes with fewer" if more > 0 else ""
    return (
        f"  {name}: {counts.images} images ({counts.images_without_boxes} without boxes), "
        f"{counts.boxes} boxes ({counts.small} small, {counts.medium} medium, {counts.large} large)"
        f"\n    {classes}"
    )


def _shortened(title: str, problems: list[Problem]) -> list[str]:
    if not problems:
        return []
    shown = [f"  {problem}" for problem in problems[:SHOWN]]
    more = len(problems) - SHOWN
    rest = [f"  ... and {more} more, listed in the JSON report"] if more > 0 else []
    return [f"{title} ({len(problems)}):", *shown, *rest]
