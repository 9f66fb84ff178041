"""Checking a data set completely: every problem at once, each with its file."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd.common.errors import suggest
from kd.data.entry import Dataset
from kd.data.image_files import check_images, fitted_size, shared_images
from kd.data.readers import scan
from kd.data.scan import Problem, Record, Scan, absence

SMALL, MEDIUM = 32**2, 96**2  # COCO's upper bounds of a box's area, square pixels
STRIDE = 32  # of the last map of the backbones that detectors use
SHOWN = 10  # problems of a kind in the text; the JSON has all
SHOWN_CLASSES = 20
TOLERATED_OVERLAP = 0.01  # of the test images: published benchmarks hold a few copies too


@dataclass(frozen=True)
class Counts:
    """Content of a split, boxes that are left out not counted; sizes by area as COCO bins them."""

    images: int
    images_without_boxes: int
    boxes: int
    boxes_per_class: dict[str, int]
    small: int
    medium: int
    large: int
    loaded: int
    """Images that the loader yields: of the training split those that have an annotation of the
    classes, as mmdet's filter leaves them, of the test split all."""
    crowd: int
    """Boxes with ``iscrowd: 1``: neither trained on nor counted by any figure."""
    difficult: int
    """VOC boxes marked difficult: not trained on, counted by AP, not by the VOC figures."""
    ignored: int
    """COCO boxes with ``ignore: 1``: treated as difficult ones are."""
    left_out: int
    """Boxes that are in the files and in none of these counts."""
    thin: int
    """Boxes of which less than a pixel lies in the image: not trained on, counted."""
    trainable: int
    """Boxes that training learns from (would learn from, in the test split)."""
    counted: int
    """Boxes that COCO's AP counts."""
    counted_voc: int
    """Boxes that the VOC figures count."""


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
    notes = [problem for found in scans.values() for problem in found.notes]
    notes += _disagreeing_order(dataset, names, scans)
    for split, found in scans.items():
        bad, turned = check_images(found, dataset.image_size, f"checking {name}/{split}")
        errors += bad
        notes += turned
    errors += [*_stale(name, dataset), *_single_cells(dataset, scans)]
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
        list(dict.fromkeys(notes)),
        {split: _count(split, found) for split, found in scans.items()},
        _fingerprint(scans),
    )


def _single_cells(dataset: Dataset, scans: dict[str, Scan]) -> Iterator[Problem]:
    """Yield an error where a training image becomes one cell of a backbone's last map.

    BatchNorm in training mode raises in a batch of one such image.
    """
    sizes = {(one["width"], one["height"]) for one in scans["train"].images}
    resized = {fitted_size(size, dataset.image_size) for size in sizes}
    smallest = min(resized, key=max, default=(STRIDE + 1, 0))
    if max(smallest) <= STRIDE:
        yield Problem(
            dataset.root,
            f"images resized into 'image_size' of the entry have {smallest[0]} x {smallest[1]} "
            f"pixels, a single cell of a backbone's last map (stride {STRIDE}), of which "
            f"BatchNorm has no variance; make 'image_size' larger than {STRIDE} pixels",
        )


def _fingerprint(scans: dict[str, Scan]) -> str:
    parts = "".join(f"{split} {found.fingerprint()}\n" for split, found in scans.items())
    return hashlib.sha256(parts.encode()).hexdigest()


def _stale(name: str, dataset: Dataset) -> Iterator[Problem]:
    if dataset.generate:
        from kd.data.builtin.shapes import is_generated

        if not is_generated(dataset.generate, Path(dataset.root)):
            reason = "the built-in data set is incomplete, or of other settings or another version"
            yield Problem(dataset.root, f"{reason}; draw it again: kd data {name}")


def _disagreeing_order(
    dataset: Dataset, names: list[str], scans: dict[str, Scan]
) -> Iterator[Problem]:
    """Note where a file lists the categories in another order than labels are numbered in."""
    orders = {split: found.order for split, found in scans.items()}
    if orders["train"] and orders["test"] and orders["train"] != orders["test"]:
        numbering = "'classes' of the entry" if dataset.classes else "the training file"
        yield Problem(
            dataset.root,
            f"the annotation files disagree on the order of categories: train has "
            f"{_listed(orders['train'])}, test has {_listed(orders['test'])}; labels are numbered "
            f"as {numbering} lists them, in both: {_listed(names)}",
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")


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


def _count(split: str, found: Scan) -> Counts:
    annotations = found.annotations
    areas = [annotation["area"] for annotation in annotations]
    small = sum(area < SMALL for area in areas)
    large = sum(area >= MEDIUM for area in areas)
    with_boxes = {annotation["image_id"] for annotation in annotations}
    crowd = _flagged(annotations, "iscrowd")
    return Counts(
        images=len(found.images),
        images_without_boxes=len(found.images) - len(with_boxes),
        boxes=len(areas),
        boxes_per_class=_per_class(found),
        small=small,
        medium=len(areas) - small - large,
        large=large,
        loaded=len(found.loaded) if split == "train" else len(found.images),
        crowd=crowd,
        difficult=_flagged(annotations, "difficult"),
        ignored=sum(bool(one.get("ignore")) and "difficult" not in one for one in annotations),
        left_out=len(found.dropped) - len(found.unlisted) + found.unlisted.total(),
        thin=len(found.thin),
        trainable=sum(map(found.is_trainable, annotations)),
        counted=len(areas) - crowd,
        counted_voc=len(areas) - _flagged(annotations, "iscrowd", "ignore", "difficult"),
    )


def _flagged(annotations: list[Record], *flags: str) -> int:
    """Return how many annotations set any of the flags."""
    return sum(any(one.get(flag) for flag in flags) for one in annotations)


def _describe_split(name: str, counts: Counts) -> str:
    per_class = sorted(counts.boxes_per_class.items(), key=lambda item: -item[1])
    classes = ", ".join(f"{key} {value}" for key, value in per_class[:SHOWN_CLASSES])
    more = len(per_class) - SHOWN_CLASSES
    classes += f", and {more} classes with fewer" if more > 0 else ""
    return (
        f"  {name}: {counts.images} images ({counts.images_without_boxes} without boxes), "
        f"{counts.boxes} boxes ({counts.small} small, {counts.medium} medium, {counts.large} large)"
        f"{_describe_use(name, counts)}"
        f"\n    {classes}"
    )


def _describe_use(name: str, counts: Counts) -> str:
    """Return a line on the boxes and images that training or evaluation does not use, if any."""
    marks = {
        "crowd": counts.crowd,
        "difficult": counts.difficult,
        "ignored": counts.ignored,
        "thinner than a pixel": counts.thin,
    }
    marked = ", ".join(f"{count} {mark}" for mark, count in marks.items() if count)
    if name == "train":
        use = f"training learns from {counts.trainable} boxes in {counts.loaded} images"
        plain = counts.loaded == counts.images
    else:
        use = f"AP counts {counts.counted} boxes, VOC figures {counts.counted_voc}"
        plain = True
    if plain and not marked:
        return ""
    return f"\n    {use}" + (f" ({marked})" if marked else "")


def _shortened(title: str, problems: list[Problem]) -> list[str]:
    if not problems:
        return []
    shown = [f"  {problem}" for problem in problems[:SHOWN]]
    more = len(problems) - SHOWN
    rest = [f"  ... and {more} more, listed in the JSON report"] if more > 0 else []
    return [f"{title} ({len(problems)}):", *shown, *rest]
