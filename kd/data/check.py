"""Complete check of a data set, which reports all problems with their files."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd.common.errors import suggest
from kd.common.lists import enumerate_names
from kd.data.entry import Dataset, SplitName
from kd.data.image_files import check_images, fitted_size, shared_images
from kd.data.readers import scan_split
from kd.data.scan import Problem, Record, Scan, describe_absence

SMALL, MEDIUM = 32**2, 96**2  # COCO's upper bounds of a box's area, in square pixels
STRIDE = 32  # of the last feature map of the backbones
MOST_LISTED = 10  # problems of a kind, or names, in the text; the JSON has all
MOST_CLASSES = 20
TOLERATED_OVERLAP = 0.01  # of the test images; published benchmarks contain a few copies, too


@dataclass(frozen=True)
class SplitCounts:
    """Numbers of images and boxes of a split, without boxes that are left out; sizes as in COCO."""

    images: int
    images_without_boxes: int
    boxes: int
    boxes_per_class: dict[str, int]
    small: int
    medium: int
    large: int
    loaded: int
    """Images that the loader yields: all test images, but only the training images that have an
    annotation of the classes, because mmdet filters out the others."""
    crowd: int
    """Boxes with ``iscrowd: 1``, which neither training nor any metric uses."""
    difficult: int
    """VOC boxes marked difficult, which count for AP but not for training or VOC metrics."""
    ignored: int
    """COCO boxes with ``ignore: 1``, which are treated as difficult boxes are."""
    left_out: int
    """Boxes in the files that none of the other counts includes."""
    thin: int
    """Boxes with less than a pixel in the image, which count for AP but not for training."""
    trainable: int
    """Boxes that training learns from, or would learn from in the test split."""
    counted_coco: int
    """Boxes that COCO's AP counts; the JSON report has them under ``counted``."""
    counted_voc: int
    """Boxes that the VOC metrics count."""


@dataclass(frozen=True)
class Report:
    """Result of a check: ``errors`` stop the plan, ``dirt`` is left out, ``notes`` are harmless."""

    name: str
    root: str
    errors: list[Problem]
    dirt: list[Problem]
    notes: list[Problem]
    splits: dict[str, SplitCounts]
    fingerprint: str | None
    """SHA-256 of all splits, None for an absent data set."""

    @property
    def usable(self) -> bool:
        """Return True if there is no error."""
        return not self.errors

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        problems = {
            kind: [problem._asdict() for problem in getattr(self, kind)]
            for kind in ("errors", "dirt", "notes")
        }
        splits = {name: _json_counts(counts) for name, counts in self.splits.items()}
        return {
            "name": self.name,
            "root": self.root,
            "usable": self.usable,
            **problems,
            "splits": splits,
            "fingerprint": self.fingerprint,
        }

    def describe(self) -> str:
        """Return the report as text with long lists shortened."""
        verdict = "usable" if self.usable else f"NOT usable, errors: {len(self.errors)}"
        lines = [f"Data set '{self.name}' at '{self.root}': {verdict}"]
        lines += [_describe_split(name, counts) for name, counts in self.splits.items()]
        lines += _shortened("Errors", self.errors)
        lines += _shortened("Left out", self.dirt)
        lines += _shortened("Notes", self.notes)
        if self.fingerprint:
            lines.append(f"Fingerprint: {self.fingerprint}")
        return "\n".join(lines)


def check(name: str, dataset: Dataset) -> Report:
    """Read every annotation and decode every image of all splits; bad data raises nothing."""
    root = Path(dataset.root)
    if not root.is_dir():
        missing = Problem(dataset.root, describe_absence(dataset, root, "folder"))
        return Report(name, dataset.root, [missing], [], [], {}, None)
    train = scan_split(dataset, "train", dataset.classes)
    names = dataset.classes or [category["name"] for category in train.categories]
    others = {split: scan_split(dataset, split, names or None) for split in dataset.splits[1:]}
    scans: dict[SplitName, Scan] = {"train": train, **others}
    errors = [problem for scan in scans.values() for problem in scan.errors]
    notes = [problem for scan in scans.values() for problem in scan.notes]
    notes += _disagreeing_order(dataset, names, scans)
    for split, scan in scans.items():
        faults, turned = check_images(scan, dataset.image_size, f"checking {name}/{split}")
        errors += faults
        notes += turned
    errors += [*_stale(name, dataset), *_single_cells(dataset, scans)]
    for problem, is_error in [*_overlaps(scans), *_unused_classes(dataset, names, scans)]:
        (errors if is_error else notes).append(problem)
    return Report(
        name,
        dataset.root,
        list(dict.fromkeys(errors)),  # splits can have the same file
        [problem for scan in scans.values() for problem in scan.dropped],
        list(dict.fromkeys(notes)),
        {split: _count(split, scan) for split, scan in scans.items()},
        _fingerprint(scans),
    )


def _json_counts(counts: SplitCounts) -> dict[str, Any]:
    values = asdict(counts)
    return {key.replace("counted_coco", "counted"): value for key, value in values.items()}


def _overlaps(scans: dict[SplitName, Scan]) -> Iterator[tuple[Problem, bool]]:
    """Yield a problem for each image in two splits, and True if it is an error.

    A few copies are tolerated, but no file that is listed for validation and another split.
    """
    pairs: list[tuple[SplitName, SplitName]] = [("train", "test")]
    if "val" in scans:
        pairs += [("train", "val"), ("val", "test")]
    for first, second in pairs:
        shared = list(shared_images(scans, first, second))
        same_files = {*scans[first].paths} & {*scans[second].paths}
        many = len(shared) > TOLERATED_OVERLAP * len(scans[second].images)
        is_error = many or ("val" in (first, second) and bool(same_files))
        yield from ((problem, is_error) for problem in shared)


def _single_cells(dataset: Dataset, scans: dict[SplitName, Scan]) -> Iterator[Problem]:
    """Yield an error if a training image becomes a single cell of a backbone's last map.

    BatchNorm in training mode raises an error in a batch of one such image.
    """
    sizes = {(image["width"], image["height"]) for image in scans["train"].images}
    resized = {fitted_size(size, dataset.image_size) for size in sizes}
    smallest = min(resized, key=max, default=(STRIDE + 1, 0))
    if max(smallest) <= STRIDE:
        yield Problem(
            dataset.root,
            f"images resized into 'image_size' of the entry have {smallest[0]} x {smallest[1]} "
            f"pixels, which is one cell of a backbone's last map (stride {STRIDE}); BatchNorm "
            f"needs more than one; make 'image_size' larger than {STRIDE} pixels",
        )


def _fingerprint(scans: dict[SplitName, Scan]) -> str:
    parts = "".join(f"{split} {scan.fingerprint()}\n" for split, scan in scans.items())
    return hashlib.sha256(parts.encode()).hexdigest()


def _stale(name: str, dataset: Dataset) -> Iterator[Problem]:
    if dataset.generate:
        from kd.data.builtin.shapes import is_generated

        if not is_generated(dataset.generate, Path(dataset.root)):
            yield Problem(
                dataset.root,
                "the built-in data set is incomplete, or has other settings or another version; "
                f"run `kd generate {name}` to generate it again",
            )


def _disagreeing_order(
    dataset: Dataset, names: list[str], scans: dict[SplitName, Scan]
) -> Iterator[Problem]:
    """Yield a note for each split whose file lists the categories in another order than train."""
    order = scans["train"].order
    for split, scan in scans.items():
        if order and scan.order and order != scan.order:
            numbering = "'classes' of the entry" if dataset.classes else "the training file"
            yield Problem(
                dataset.root,
                f"the annotation files list the categories in different orders: train has "
                f"{_join_names(order)}, {split} has {_join_names(scan.order)}; both splits "
                f"use the order of {numbering}: {_join_names(names)}",
            )


def _join_names(names: list[str]) -> str:
    return ", ".join(names[:MOST_LISTED]) + (" ..." if len(names) > MOST_LISTED else "")


def _unused_classes(
    dataset: Dataset, names: list[str], scans: dict[SplitName, Scan]
) -> Iterator[tuple[Problem, bool]]:
    """Yield a problem for each class without a box in a split, and True if it is an error.

    It is an error for a VOC class without a box in any split. VOC files have no list of classes,
    so a misspelled name in the entry shows in no other way.
    """
    if any(scan.errors for scan in scans.values()):
        return  # an unreadable file may contain the class
    counts = {split: _per_class(scan) for split, scan in scans.items()}
    unlisted = {name for scan in scans.values() for name in scan.unlisted}
    for name in names:
        without = [split for split in scans if not counts[split].get(name)]
        if len(without) == len(scans) and dataset.format == "voc":
            hint = f"; {suggest(name, unlisted)}" if unlisted else ""
            yield Problem(dataset.root, f"class '{name}' has no box in any split{hint}"), True
        elif without:
            missing = enumerate_names(f"'{split}'" for split in without)
            yield Problem(dataset.root, f"class '{name}' has no box in split {missing}"), False


def _per_class(scan: Scan) -> dict[str, int]:
    counts = Counter(annotation["category_id"] for annotation in scan.annotations)
    return {category["name"]: counts[category["id"]] for category in scan.categories}


def _count(split: str, scan: Scan) -> SplitCounts:
    annotations = scan.annotations
    areas = [annotation["area"] for annotation in annotations]
    small = sum(area < SMALL for area in areas)
    large = sum(area >= MEDIUM for area in areas)
    with_boxes = {annotation["image_id"] for annotation in annotations}
    crowd = _flagged(annotations, "iscrowd")
    return SplitCounts(
        images=len(scan.images),
        images_without_boxes=len(scan.images) - len(with_boxes),
        boxes=len(areas),
        boxes_per_class=_per_class(scan),
        small=small,
        medium=len(areas) - small - large,
        large=large,
        loaded=len(scan.loaded) if split == "train" else len(scan.images),
        crowd=crowd,
        difficult=_flagged(annotations, "difficult"),
        ignored=sum(bool(box.get("ignore")) and "difficult" not in box for box in annotations),
        left_out=len(scan.dropped) - len(scan.unlisted) + scan.unlisted.total(),
        thin=len(scan.thin),
        trainable=sum(map(scan.is_trainable, annotations)),
        counted_coco=len(areas) - crowd,
        counted_voc=len(areas) - _flagged(annotations, "iscrowd", "ignore", "difficult"),
    )


def _flagged(annotations: list[Record], *flags: str) -> int:
    """Return the number of annotations that set any of the flags."""
    return sum(any(annotation.get(flag) for flag in flags) for annotation in annotations)


def _describe_split(name: str, counts: SplitCounts) -> str:
    per_class = sorted(counts.boxes_per_class.items(), key=lambda item: -item[1])
    classes = ", ".join(f"{key} {value}" for key, value in per_class[:MOST_CLASSES])
    more = len(per_class) - MOST_CLASSES
    classes += f", and {more} classes with fewer" if more > 0 else ""
    return (
        f"  {name}: {counts.images} images ({counts.images_without_boxes} without boxes), "
        f"{counts.boxes} boxes ({counts.small} small, {counts.medium} medium, {counts.large} large)"
        f"{_describe_use(name, counts)}" + (f"\n    {classes}" if classes else "")
    )


def _describe_use(name: str, counts: SplitCounts) -> str:
    """Return a line on the boxes and images that training or evaluation skips, or no text."""
    marks = {
        "crowd": counts.crowd,
        "difficult": counts.difficult,
        "ignored": counts.ignored,
        "thinner than a pixel": counts.thin,
    }
    marks_text = ", ".join(f"{count} {mark}" for mark, count in marks.items() if count)
    if name == "train":
        use = f"training learns from {counts.trainable} boxes in {counts.loaded} images"
        uses_all = counts.loaded == counts.images
    else:
        use = f"AP counts {counts.counted_coco} boxes, VOC metrics {counts.counted_voc}"
        uses_all = True
    if uses_all and not marks_text:
        return ""
    return f"\n    {use}" + (f" ({marks_text})" if marks_text else "")


def _shortened(title: str, problems: list[Problem]) -> list[str]:
    if not problems:
        return []
    lines = [f"  {problem}" for problem in problems[:MOST_LISTED]]
    more = len(problems) - MOST_LISTED
    rest = [f"  ... and {more} more, which `kd check NAME --json` prints"] if more > 0 else []
    return [f"{title} ({len(problems)}):", *lines, *rest]
