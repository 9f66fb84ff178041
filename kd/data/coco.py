"""Scanning a split in COCO format as mmdet's CocoDataset reads it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kd.data.scan import Problem, Record, Scan, SplitName, absence
from kd.errors import suggest
from kd.settings.datasets import CocoSplit, Dataset

Kind = tuple[Callable[[Any], bool], str]

LARGEST = 1e9  # of a coordinate or an area: also refuses NaN and infinity
WHOLE: Kind = (
    lambda v: isinstance(v, int) and not isinstance(v, bool) and abs(v) < 2**63,
    "a whole number",
)
POSITIVE: Kind = (lambda v: WHOLE[0](v) and v > 0, "a whole number above 0")
NAME: Kind = (lambda v: isinstance(v, str) and v != "", "a text")
NUMBER: Kind = (
    lambda v: isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < LARGEST,
    "a number",
)
BOX: Kind = (
    lambda v: isinstance(v, list) and len(v) == 4 and all(map(NUMBER[0], v)),
    "four numbers [x, y, width, height]",
)
FLAG: Kind = (lambda v: v in (0, 1) and isinstance(v, int), "0 or 1")

IMAGE = {"id": WHOLE, "width": POSITIVE, "height": POSITIVE, "file_name": NAME}
CATEGORY = {"id": WHOLE, "name": NAME}
ANNOTATION = {"id": WHOLE, "image_id": WHOLE, "category_id": WHOLE, "bbox": BOX, "area": NUMBER}


def scan_coco(dataset: Dataset, split: SplitName, classes: list[str] | None) -> Scan:
    """Read a split; ``classes`` None takes every category of the file."""
    scan = Scan()
    entry = getattr(dataset, split)
    assert isinstance(entry, CocoSplit)
    path = Path(dataset.root) / entry.annotations
    folder = Path(dataset.root) / entry.images
    content = _load(scan, path, dataset)
    if content is None:
        return scan
    categories = list(_records(scan, path, content, "categories", CATEGORY))
    scan.images = list(_records(scan, path, content, "images", IMAGE))
    scan.paths = [folder / image["file_name"] for image in scan.images]
    _report_twins(scan, path, "images", "file_name", scan.images)
    _report_twins(scan, path, "categories", "name", categories)
    scan.categories = _listed(scan, path, categories, classes)
    _take_annotations(scan, path, content, categories)
    if scan.images and not folder.is_dir():
        scan.error(folder, absence(dataset, folder, "image folder"))
    return scan


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
        scan.error(path, "must hold an object with 'images', 'annotations' and 'categories'")
        return None
    return content


def _records(
    scan: Scan, path: Path, content: Record, key: str, kinds: dict[str, Kind]
) -> Iterator[Record]:
    """Yield the well-formed records of a list, each ``id`` once; note the others as errors."""
    records = content.get(key)
    if not isinstance(records, list):
        fault = f"'{key}' must be a list" if key in content else f"key '{key}' is missing"
        scan.error(path, fault)
        return
    seen: set[int] = set()
    for position, record in enumerate(records):
        wrong = _fault(record, kinds)
        if wrong:
            scan.error(path, f"{key}[{position}]: {wrong}")
        elif record["id"] in seen:
            scan.error(path, f"{key}[{position}]: id {record['id']} is used twice")
        else:
            seen.add(record["id"])
            yield record


def _fault(record: Any, kinds: dict[str, Kind]) -> str | None:
    if not isinstance(record, dict):
        return "must be an object"
    for key, (fits, wanted) in kinds.items():
        if key not in record:
            return f"key '{key}' is missing"
        if not fits(record[key]):
            return f"'{key}' must be {wanted}, not {_shown(record[key])}"
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _report_twins(scan: Scan, path: Path, what: str, key: str, records: list[Record]) -> None:
    for value, count in Counter(record[key] for record in records).items():
        if count > 1:
            scan.error(path, f"{what}: {key} {value!r} is used {count} times")


def _listed(
    scan: Scan, path: Path, categories: list[Record], classes: list[str] | None
) -> list[Record]:
    """Return the categories of ``classes`` in label order, which for mmdet is the file's order."""
    names = [category["name"] for category in categories]
    if classes is None:
        return categories
    for name in classes:
        if name not in names:
            hint = suggest(name, names)
            scan.error(path, f"class '{name}' of the entry is no category here; {hint}")
    listed = [category for category in categories if category["name"] in classes]
    in_file = [category["name"] for category in listed]
    if in_file != [name for name in classes if name in names]:
        order = "mmdet numbers labels in the file's order; write 'classes' as"
        scan.error(path, f"the entry lists the classes in another order; {order} {in_file}")
    return listed


def _take_annotations(scan: Scan, path: Path, content: Record, categories: list[Record]) -> None:
    if not (
        isinstance(content.get("images"), list) and isinstance(content.get("categories"), list)
    ):
        return
    images = {image["id"]: image for image in scan.images}
    names = {category["id"]: category["name"] for category in categories}
    listed = {category["id"] for category in scan.categories}
    # A record that is wrong in itself was reported; its annotations need not be.
    broken_images = _ids(content, "images") - images.keys()
    broken_categories = _ids(content, "categories") - names.keys()
    for record in _records(scan, path, content, "annotations", ANNOTATION):
        image, name = images.get(record["image_id"]), names.get(record["category_id"])
        what = f"annotation {record['id']}"
        if record["image_id"] in broken_images or record["category_id"] in broken_categories:
            continue
        if image is None:
            scan.error(path, f"{what}: image_id {record['image_id']} is no image")
        elif name is None:
            scan.error(path, f"{what}: category_id {record['category_id']} is no category")
        elif not FLAG[0](record.get("iscrowd", 0)):
            scan.error(path, f"{what}: 'iscrowd' must be 0 or 1, not {_shown(record['iscrowd'])}")
        elif record["category_id"] not in listed:
            scan.unlisted[name] += 1
        elif _usable(scan, path, record, image, f"{what}, image {image['file_name']!r}"):
            scan.annotations.append({**record, "iscrowd": int(record.get("iscrowd", 0))})
    for name, count in sorted(scan.unlisted.items()):
        reason = f"{count} boxes of category {name!r}, which 'classes' of the entry does not list"
        scan.dropped.append(Problem(str(path), reason))


def _ids(content: Record, key: str) -> set[Any]:
    """Return every ``id`` of a list, malformed records included."""
    return set(filter(WHOLE[0], (one.get("id") for one in content[key] if isinstance(one, dict))))


def _usable(scan: Scan, path: Path, record: Record, image: Record, what: str) -> bool:
    if not scan.judge_box(record["bbox"], image, path, what):
        return False
    if record["area"] <= 0:
        scan.dropped.append(Problem(str(path), f"{what}: 'area' is {record['area']:g}"))
        return False
    return True
