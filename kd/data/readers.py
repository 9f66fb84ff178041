"""Reading of a COCO or VOC split into a COCO dict."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kd.common.errors import UserError
from kd.common.files import uncollected
from kd.data.coco import category_names, scan_coco
from kd.data.entry import CocoSplit, Dataset, SplitName
from kd.data.scan import Problem, Record, Scan
from kd.data.voc import scan_voc

MOST_ERRORS = 5
MOST_NAMES = 10  # of classes in a message


@dataclass(frozen=True)
class GroundTruth:
    """Images and annotated objects of a split.

    ``coco``: a COCO dict. Label i is ``categories[i]``; ``bbox`` is xywh in pixels. It has all
    boxes with an area that overlap the image, as written; a box that sticks out is not
    clipped. Images of VOC have ids 1..n in listing order and ``img_id``, mmdet's id of them. Boxes
    of VOC have ``difficult`` and the equal ``ignore``. mmdet's id of COCO images is ``id``.
    ``dropped``: the content that was left out, with reasons.
    ``fingerprint``: SHA-256 of annotation bytes and image names and sizes (``Scan.fingerprint``).
    """

    coco: Record
    dropped: list[Problem]
    fingerprint: str


def read_split(dataset: Dataset, split: SplitName) -> GroundTruth:
    """Read a split; raise UserError if it is absent, malformed or empty."""
    scan = valid_scan(dataset, split)
    coco = {
        "images": scan.images,
        "annotations": scan.annotations,
        "categories": scan.categories,
    }
    return GroundTruth(coco, scan.dropped, scan.fingerprint())


def valid_scan(dataset: Dataset, split: SplitName) -> Scan:
    """Scan a split; raise UserError if it is absent, malformed or empty."""
    scan = scan_split(dataset, split, dataset.classes or class_names(dataset))
    _refuse(scan)
    return scan


def class_names(dataset: Dataset) -> list[str]:
    """Return the class names in label order; raise UserError if they cannot be read.

    Without ``classes`` in the entry, they are the categories of a COCO training file in its order,
    or the sorted names in the annotations of a VOC training split.
    """
    if dataset.classes is not None:
        return dataset.classes
    return list(_read_class_names(dataset.model_dump_json(), _stamp(dataset)))


def _stamp(dataset: Dataset) -> tuple[tuple[int, int] | None, ...]:
    """Return time and size of the files that class names are read from."""
    paths = dataset.listings("train")
    if not isinstance(dataset.train, CocoSplit):
        paths += [Path(dataset.root, name).parent / "Annotations" for name in dataset.train]
    return tuple(map(_time_and_size, paths))


def _time_and_size(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


@cache
def _read_class_names(entry: str, stamp: tuple[tuple[int, int] | None, ...]) -> tuple[str, ...]:
    """Return the class names of an entry in JSON, cached for each state of its files.

    A plan composes every run of a study, and every run needs the names.
    """
    dataset = Dataset.model_validate_json(entry)
    if dataset.format == "coco":
        scan = Scan()
        names = category_names(scan, dataset)
    else:
        scan = scan_split(dataset, "train", None)
        names = [category["name"] for category in scan.categories]
    _refuse(scan)
    return tuple(names)


def image_path(dataset: Dataset, split: SplitName, image: Record) -> Path:
    """Return the path of the file of an image record of a split."""
    entry = getattr(dataset, split)
    folder = entry.images if isinstance(entry, CocoSplit) else ""
    return Path(dataset.root, folder, image["file_name"])


def scan_split(dataset: Dataset, split: SplitName, classes: list[str] | None) -> Scan:
    """Scan a split for content and problems; without ``classes``, use all classes of the files."""
    readers: dict[str, Callable[[Dataset, SplitName, list[str] | None], Scan]]
    readers = {"coco": scan_coco, "voc": scan_voc}
    with uncollected():
        scan = readers[dataset.format](dataset, split, classes)
    if not scan.errors and not scan.images:
        scan.error(dataset.root, f"split '{split}' has no images; correct '{split}' of the entry")
    elif not scan.errors and not scan.annotations:
        scan.error(dataset.root, _describe_emptiness(scan, split))
    elif not scan.errors:
        _require_use(scan, dataset, split)
    return scan


def _describe_emptiness(scan: Scan, split: SplitName) -> str:
    """Return why a split has no boxes: no annotation, or no box of a listed class."""
    if not scan.unlisted:
        return f"split '{split}' has no boxes; annotate its images"
    names = sorted(scan.unlisted)
    rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (
        f"split '{split}' has no boxes of the classes that 'classes' of the entry lists; "
        f"the classes of its boxes are {', '.join(names[:MOST_NAMES])}{rest}"
    )


def _require_use(scan: Scan, dataset: Dataset, split: SplitName) -> None:
    """Add an error if training would learn from no box, or if the main metric counts none."""
    flags = Counter(
        flag
        for annotation in scan.annotations
        for flag in ("iscrowd", "difficult", "ignore")
        if annotation.get(flag)
    )
    if split == "train":
        has_use = any(map(scan.is_trainable, scan.annotations))
        flags["thinner than a pixel"] = len(scan.thin)
        purpose = "training learns from none"
    else:
        keys = ["iscrowd"] if dataset.metric == "coco" else ["iscrowd", "difficult", "ignore"]
        has_use = any(not any(box.get(key) for key in keys) for box in scan.annotations)
        purpose = f"the main metric, 'metric: {dataset.metric}', counts none"
    if not has_use:
        marks = ", ".join(f"{count} {flag}" for flag, count in flags.items() if count)
        scan.error(
            dataset.root,
            f"{purpose} of the {len(scan.annotations)} boxes of split '{split}' ({marks}); "
            "correct these marks in the annotations",
        )


def _refuse(scan: Scan) -> None:
    if scan.errors:
        more = len(scan.errors) - MOST_ERRORS
        problems = [str(problem) for problem in scan.errors[:MOST_ERRORS]]
        rest = [f"and {more} more; `kd check` lists all"] if more > 0 else []
        raise UserError("\n".join([*problems, *rest]))
