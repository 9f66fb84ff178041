"""Reading a split of a data set, COCO or VOC, into one form."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kd.data.coco import scan_coco
from kd.data.scan import Problem, Record, Scan, SplitName
from kd.data.voc import scan_voc
from kd.errors import UserError
from kd.settings.datasets import CocoSplit, Dataset

SHOWN_ERRORS = 5


@dataclass(frozen=True)
class GroundTruth:
    """A split: what is to be found in which image.

    ``coco``: a COCO dict. Label i is ``categories[i]``; ``bbox`` is xywh in pixels. Only boxes with
    an area that meet the image are in it, as they were written: one that sticks out is not clipped.
    For VOC, images have ids 1..n in listing order and ``name``, which is mmdet's ``img_id``; boxes
    carry ``difficult`` and, the same, ``ignore``.
    ``dropped``: what was left out, and why.
    ``fingerprint``: SHA-256 of annotation bytes and image names and sizes (``Scan.fingerprint``).
    """

    coco: Record
    dropped: list[Problem]
    fingerprint: str


def read_split(dataset: Dataset, split: SplitName) -> GroundTruth:
    """Read a split; UserError where it is absent, malformed or empty."""
    found = scan(dataset, split, dataset.classes or class_names(dataset))
    _refuse(found)
    coco = {
        "images": found.images,
        "annotations": found.annotations,
        "categories": found.categories,
    }
    return GroundTruth(coco, found.dropped, found.fingerprint())


def class_names(dataset: Dataset) -> list[str]:
    """Return the class names in label order; UserError where they must be read and cannot be.

    Without ``classes`` in the entry: the categories of a COCO training file in its order, or the
    sorted names that the annotations of a VOC training split use.
    """
    if dataset.classes is not None:
        return dataset.classes
    found = scan(dataset, "train", None)
    _refuse(found)
    return [category["name"] for category in found.categories]


def image_path(dataset: Dataset, split: SplitName, image: Record) -> Path:
    """Return the file of an image record of this split."""
    entry = getattr(dataset, split)
    folder = entry.images if isinstance(entry, CocoSplit) else ""
    return Path(dataset.root, folder, image["file_name"])


def scan(dataset: Dataset, split: SplitName, classes: list[str] | None) -> Scan:
    """Read a split and everything that is wrong with it; without ``classes``, with all it has."""
    readers: dict[str, Callable[[Dataset, SplitName, list[str] | None], Scan]]
    readers = {"coco": scan_coco, "voc": scan_voc}
    found = readers[dataset.format](dataset, split, classes)
    if not found.errors and not found.images:
        found.error(dataset.root, f"the split '{split}' has no images")
    elif not found.errors and not found.annotations:
        found.error(dataset.root, f"the split '{split}' has no boxes")
    return found


def _refuse(found: Scan) -> None:
    if found.errors:
        more = len(found.errors) - SHOWN_ERRORS
        shown = [str(problem) for problem in found.errors[:SHOWN_ERRORS]]
        rest = [f"and {more} more, which the check of the data set lists"] if more > 0 else []
        raise UserError("\n".join([*shown, *rest]))
