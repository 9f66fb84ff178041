"""Reading of annotation files in COCO format: the scan of a split, and columns for the loader."""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd.common.errors import suggest
from kd.data.box_units import Suspects
from kd.data.entry import CocoSplit, Dataset, SplitName
from kd.data.scan import Problem, Record, Scan, describe_absence

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = tuple[Callable[[Any], bool], str]

NUMBER_TYPES = {int, float}
LARGEST_NUMBER = 1e9  # of a coordinate or an area; comparison also refuses NaN and infinity
WHOLE_NUMBER: Kind = (
    lambda v: isinstance(v, int) and not isinstance(v, bool) and abs(v) < 2**63,
    "a whole number",
)
POSITIVE: Kind = (lambda v: WHOLE_NUMBER[0](v) and v > 0, "a whole number above 0")
NAME: Kind = (lambda v: isinstance(v, str) and v != "", "a text")
NUMBER: Kind = (
    lambda v: isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < LARGEST_NUMBER,
    "a number",
)
BOX: Kind = (
    lambda v: isinstance(v, list) and len(v) == 4 and all(map(NUMBER[0], v)),
    "four numbers [x, y, width, height]",
)
FLAG: Kind = (lambda v: isinstance(v, int) and v in (0, 1), "0 or 1")
IGNORE: Kind = (lambda v: v is None or FLAG[0](v), "0 or 1")

IMAGE_KEYS = {"id": WHOLE_NUMBER, "width": POSITIVE, "height": POSITIVE, "file_name": NAME}
CATEGORY_KEYS = {"id": WHOLE_NUMBER, "name": NAME}
ANNOTATION_KEYS = {
    "id": WHOLE_NUMBER,
    "image_id": WHOLE_NUMBER,
    "category_id": WHOLE_NUMBER,
    "bbox": BOX,
    "area": NUMBER,
}


def scan_coco(dataset: Dataset, split: SplitName, classes: list[str] | None) -> Scan:
    """Read a split; without ``classes``, use every category of the file except a root."""
    scan = Scan()
    entry = getattr(dataset, split)
    assert isinstance(entry, CocoSplit)
    path = Path(dataset.root) / entry.annotations
    folder = Path(dataset.root) / entry.images
    content = _load(scan, path, dataset)
    if content is None:
        return scan
    categories = _categories(scan, path, content, classes)
    images = list(_records(scan, path, content, "images", IMAGE_KEYS))
    # The loader ignores other keys of a record, such as 'name'.
    scan.images = [{key: image[key] for key in IMAGE_KEYS} for image in images]
    scan.paths = [folder / image["file_name"] for image in scan.images]
    _report_twins(scan, path, "images", "file_name", scan.images)
    _report_twins(scan, path, "categories", "name", categories)
    scan.categories = _select(scan, path, categories, classes)
    scan.order = [category["name"] for category in categories if category in scan.categories]
    _take_annotations(scan, path, content, categories)
    if scan.images and not folder.is_dir():
        scan.error(folder, describe_absence(dataset, folder, "image folder"))
    return scan


def category_names(scan: Scan, dataset: Dataset) -> list[str]:
    """Return the names of the training file's categories, without a root category.

    Only the categories are checked; their faults are added to ``scan``.
    """
    assert isinstance(dataset.train, CocoSplit)
    path = Path(dataset.root) / dataset.train.annotations
    content = _load(scan, path, dataset)
    if content is None:
        return []
    categories = _categories(scan, path, content, None)
    _report_twins(scan, path, "categories", "name", categories)
    return [category["name"] for category in categories]


def roots(
    categories: list[Record], annotations: list[Any], classes: Sequence[str] | None
) -> list[Record]:
    """Return the categories that represent a whole project instead of a class of objects.

    Roboflow writes one with ``supercategory: none`` whose name is the supercategory of all others,
    and sometimes the name of a class, too. A category is no root if ``classes`` has its name and no
    other category has the same name.
    """
    names = Counter(category["name"] for category in categories)
    candidates = [
        root
        for root in categories
        if root.get("supercategory") == "none"
        and any(
            category.get("supercategory") == root["name"]
            for category in categories
            if category is not root
        )
        and (classes is None or root["name"] not in classes or names[root["name"]] > 1)
    ]
    if not candidates:
        return []
    used = {box.get("category_id") for box in annotations if isinstance(box, dict)}
    return [root for root in candidates if root["id"] not in used]


def _categories(scan: Scan, path: Path, content: Record, classes: list[str] | None) -> list[Record]:
    """Return the categories of a file without roots, and add a note for each root."""
    categories = list(_records(scan, path, content, "categories", CATEGORY_KEYS))
    annotations = content.get("annotations")
    unused = roots(categories, annotations if isinstance(annotations, list) else [], classes)
    for root in unused:
        scan.notes.append(
            Problem(
                str(path),
                f"category {root['id']}, {root['name']!r}, is the supercategory of others and has "
                "no box; it is not a class",
            )
        )
    return [category for category in categories if category not in unused]


def _load(scan: Scan, path: Path, dataset: Dataset) -> Record | None:
    data = scan.read(path, "annotation file", dataset)
    if data is None:
        return None
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        scan.error(path, f"not valid JSON: {error}")
        return None
    if not isinstance(content, dict):
        scan.error(path, "must be an object with 'images', 'annotations' and 'categories'")
        return None
    return content


def _records(
    scan: Scan, path: Path, content: Record, key: str, kinds: dict[str, Kind]
) -> Iterator[Record]:
    """Yield the well-formed records of a list, each ``id`` once; add errors for the others."""
    records = content.get(key)
    if not isinstance(records, list):
        reason = f"'{key}' must be a list" if key in content else f"key '{key}' is missing"
        scan.error(path, reason)
        return
    ids: set[int] = set()
    for position, record in enumerate(records):
        fault = None if _is_plain(record, kinds) else fault_of(record, kinds)
        if fault:
            scan.error(path, f"{key}[{position}]: {fault}")
        elif record["id"] in ids:
            scan.error(path, f"{key}[{position}]: id {record['id']} is used twice")
        else:
            ids.add(record["id"])
            yield record


def _is_plain(record: Any, kinds: dict[str, Kind]) -> bool:
    """Return True for an annotation that certainly has no fault; it saves seconds for COCO."""
    if kinds is not ANNOTATION_KEYS or type(record) is not dict:
        return False
    try:
        (x, y, width, height), area = record["bbox"], record["area"]
        ids = (record["id"], record["image_id"], record["category_id"])
        return (
            type(record["bbox"]) is list
            and {type(x), type(y), type(width), type(height), type(area)} <= NUMBER_TYPES
            and abs(x) + abs(y) + abs(width) + abs(height) + abs(area) < LARGEST_NUMBER  # no NaN
            and type(ids[0]) is type(ids[1]) is type(ids[2]) is int
            and -(2**63) < min(ids) <= max(ids) < 2**63
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def fault_of(record: Any, kinds: dict[str, Kind]) -> str | None:
    """Return why a record lacks a key or has a wrong value, or None."""
    if not isinstance(record, dict):
        return "must be an object"
    for key, (is_valid, requirement) in kinds.items():
        if key not in record:
            return f"key '{key}' is missing"
        if not is_valid(record[key]):
            return f"'{key}' must be {requirement}, not {_repr(record[key])}"
    return None


def _repr(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _report_twins(scan: Scan, path: Path, title: str, key: str, records: list[Record]) -> None:
    for value, count in Counter(record[key] for record in records).items():
        if count > 1:
            scan.error(path, f"{title}: {key} {value!r} is used {count} times")


def _select(
    scan: Scan, path: Path, categories: list[Record], classes: list[str] | None
) -> list[Record]:
    """Return the categories of ``classes`` in label order."""
    if classes is None:
        return categories
    by_name = {category["name"]: category for category in categories}
    for name in classes:
        if name not in by_name:
            hint = suggest(name, by_name)
            scan.error(path, f"no category '{name}', which 'classes' of the entry lists; {hint}")
    return [by_name[name] for name in classes if name in by_name]


def _take_annotations(scan: Scan, path: Path, content: Record, categories: list[Record]) -> None:
    if not (
        isinstance(content.get("images"), list) and isinstance(content.get("categories"), list)
    ):
        return
    images = {image["id"]: image for image in scan.images}
    names = {category["id"]: category["name"] for category in categories}
    class_ids = {category["id"] for category in scan.categories}
    # The faults of these records are reported already, so their annotations add no error.
    broken_images = _ids(content, "images") - images.keys()
    broken_categories = _ids(content, "categories") - names.keys()
    suspect = Suspects()
    for record in _records(scan, path, content, "annotations", ANNOTATION_KEYS):
        image, name = images.get(record["image_id"]), names.get(record["category_id"])
        label = f"annotation {record['id']}"
        if record["image_id"] in broken_images or record["category_id"] in broken_categories:
            continue
        if image is None:
            scan.error(path, f"{label}: no image has id {record['image_id']}")
        elif name is None:
            scan.error(path, f"{label}: no category has id {record['category_id']}")
        elif not FLAG[0](record.get("iscrowd", 0)):
            scan.error(path, f"{label}: 'iscrowd' must be 0 or 1, not {_repr(record['iscrowd'])}")
        elif not IGNORE[0](record.get("ignore")):
            scan.error(path, f"{label}: 'ignore' must be 0 or 1, not {_repr(record['ignore'])}")
        elif record["category_id"] not in class_ids:
            scan.unlisted[name] += 1
        else:
            scan.loaded.add(image["id"])  # mmdet loads an image even if all its boxes are left out
            suspect.add(record["bbox"], image)
            _take(scan, path, record, image, f"{label}, image {image['file_name']!r}")
    suspect.report(scan, path)
    _note_ignored(scan, path)
    for name, count in sorted(scan.unlisted.items()):
        reason = f"{count} boxes of category {name!r}, which 'classes' of the entry does not list"
        scan.dropped.append(Problem(str(path), reason))


def _ids(content: Record, key: str) -> set[Any]:
    """Return every ``id`` of a list, malformed records included."""
    ids = (record.get("id") for record in content[key] if isinstance(record, dict))
    return set(filter(WHOLE_NUMBER[0], ids))


def _take(scan: Scan, path: Path, record: Record, image: Record, label: str) -> None:
    verdict = scan.judge_box(record["bbox"], image, path, label)
    if verdict == "useless":
        return
    if record["area"] <= 0:
        scan.dropped.append(Problem(str(path), f"{label}: 'area' is {record['area']:g}"))
        return
    if verdict == "thin":
        scan.thin.add(record["id"])
    # mmdet and pycocotools ignore other keys, such as 'difficult'.
    flags = {"ignore": int(bool(record["ignore"]))} if "ignore" in record else {}
    required = {key: record[key] for key in ANNOTATION_KEYS}
    scan.annotations.append({**required, "iscrowd": int(record.get("iscrowd", 0)), **flags})


def _note_ignored(scan: Scan, path: Path) -> None:
    count = sum(bool(box.get("ignore")) for box in scan.annotations)
    if count:
        reason = (
            f"{count} of {len(scan.annotations)} boxes have 'ignore': 1; training skips them, "
            "AP counts them as pycocotools does, and the VOC metrics do not count them; "
            "set 'iscrowd': 1 to skip them in AP too, or remove the key to train on them"
        )
        scan.notes.append(Problem(str(path), reason))


# --- Columns ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoxColumns:
    """Annotations of a file as arrays, one element or row for each, in the order of the file."""

    image_ids: "NDArray[np.int64]"
    category_ids: "NDArray[np.int64]"
    xywh: "NDArray[np.float64]"
    """Boxes in pixels (N, 4)."""
    areas: "NDArray[np.float64]"
    crowds: "NDArray[np.bool_]"
    ignored: "NDArray[np.bool_]"


def read_columns(path: Path) -> tuple[Record, BoxColumns]:
    """Return the content of an annotation file without annotations, and these as arrays.

    Each annotation becomes a row while the file is parsed. A million dicts with their masks would
    need gigabytes and most of the time. The file must be one that ``scan_coco`` accepts.
    """
    images, categories, boxes, areas = array("q"), array("q"), array("d"), array("d")
    crowds, ignored = array("b"), array("b")

    def take_row(record: Record) -> Record | int:
        if "bbox" not in record or "image_id" not in record:
            return record
        images.append(record["image_id"])
        categories.append(record["category_id"])
        boxes.extend(record["bbox"])
        areas.append(record["area"])
        crowds.append(1 if record.get("iscrowd") else 0)
        ignored.append(1 if record.get("ignore") else 0)
        return len(images) - 1

    content: Record = json.loads(path.read_text(encoding="utf-8"), object_hook=take_row)
    rows = np.array(content.pop("annotations"), np.int64)  # other lists may have similar records
    xywh = np.array(boxes).reshape(len(images), 4)
    columns = (np.array(images), np.array(categories), xywh, np.array(areas))
    flags = (np.array(column).astype(bool) for column in (crowds, ignored))
    return content, BoxColumns(*(column[rows] for column in (*columns, *flags)))
