"""Reading a split of a data set, COCO or VOC, into one form."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kd.common.errors import UserError
from kd.data.coco import category_names, scan_coco
from kd.data.entry import CocoSplit, Dataset
from kd.data.scan import Problem, Record, Scan, SplitName
from kd.data.voc import scan_voc

SHOWN_ERRORS = 5


@dataclass(frozen=True)
class GroundTruth:
    """A split: what is to be found in which image.

    ``coco``: a COCO dict. Label i is ``categories[i]``; ``bbox`` is xywh in pixels. Only boxes with
    an area that meet the image are in it, as they were written: one that sticks out is not clipped.
    For VOC, images have ids 1..n in listing order and ``img_id``, the name by which mmdet knows
    them; boxes carry ``difficult`` and, the same, ``ignore``. COCO images mmdet knows by ``id``.
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
    return list(_read_class_names(dataset.model_dump_json(), _stamp(dataset)))


def _stamp(dataset: Dataset) -> tuple[tuple[int, int] | None, ...]:
    """Return time and size of the files whose change means that class names are read again."""
    root = Path(dataset.root)
    if isinstance(dataset.train, CocoSplit):
        paths = [root / dataset.train.annotations]
    else:
        folders = {name: name.rpartition("/")[0] for name in dataset.train}
        lists = [
            root / folder / "ImageSets/Main" / f"{name.rpartition('/')[2]}.txt"
            for name, folder in folders.items()
        ]
        paths = [*lists, *(root / folder / "Annotations" for folder in folders.values())]
    return tuple(map(_time_and_size, paths))


def _time_and_size(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


@cache
def _read_class_names(entry: str, stamp: tuple[tuple[int, int] | None, ...]) -> tuple[str, ...]:
    """Return the class names of an entry given as JSON, once for each state of its files.

    A plan composes every run of a study, and each of them needs the names.
    """
    dataset = Dataset.model_validate_json(entry)
    if dataset.format == "coco":
        found = Scan()
        names = category_names(found, dataset)
    else:
        found = scan(dataset, "train", None)
        names = [category["name"] for category in found.categories]
    _refuse(found)
    return tuple(names)


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
    elif not found.errors:
        _require_use(found, dataset, split)
    return found


def _require_use(found: Scan, dataset: Dataset, split: SplitName) -> None:
    """Note an error where training would learn from no box, or no figure would be defined."""
    flags = Counter(
        flag
        for annotation in found.annotations
        for flag in ("iscrowd", "difficult", "ignore")
        if annotation.get(flag)
    )
    if split == "train":
        useful = any(map(found.is_trainable, found.annotations))
        flags["thinner than a pixel"] = len(found.thin)
        purpose = "training would learn from none"
    else:
        keys = ["iscrowd"] if dataset.metric == "coco" else ["iscrowd", "difficult", "ignore"]
        useful = any(not any(one.get(key) for key in keys) for one in found.annotations)
        purpose = f"the headline figure, 'metric: {dataset.metric}', would count none"
    if not useful:
        listed = ", ".join(f"{count} {flag}" for flag, count in flags.items() if count)
        found.error(
            dataset.root,
            f"{purpose} of the {len(found.annotations)} boxes of the split '{split}' ({listed}); "
            "correct these marks in the annotations",
        )


def _refuse(found: Scan) -> None:
    if found.errors:
        more = len(found.errors) - SHOWN_ERRORS
        shown = [str(problem) for problem in found.errors[:SHOWN_ERRORS]]
        rest = [f"and {more} more, which the check of the data set lists"] if more > 0 else []
        raise UserError("\n".join([*shown, *rest]))
