"""Reader of COCO annotation files: one for each split, or one for all images."""

import json
import re
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.data.coco import BOX, CATEGORY_KEYS, FLAG, NAME, POSITIVE, WHOLE_NUMBER, fault_of, roots
from kd.data.entry import SplitName
from kd.start.folder import Folder
from kd.start.labels import (
    SPLIT_WORDS,
    Box,
    Faults,
    LabeledBox,
    LabeledImage,
    Labels,
    checked_classes,
)

Record = dict[str, Any]

IMAGE_KEYS = {"id": WHOLE_NUMBER, "file_name": NAME}
ANNOTATION_KEYS = {"image_id": WHOLE_NUMBER, "category_id": WHOLE_NUMBER, "bbox": BOX}
OTHER_TASKS = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")
"""Beginnings of the names of COCO's annotation files that list other things than objects."""


def is_coco(content: Any) -> bool:
    """Return True for the content of an annotation file of COCO, also if a list is missing."""
    keys = {"images", "annotations", "categories"}
    return isinstance(content, dict) and len(keys & content.keys()) >= 2


def read(folder: Folder, contents: dict[Path, Any]) -> Labels:
    """Return the labels of a folder; ``contents``: its annotation files."""
    labels = Labels("COCO", [], [])
    instances = {
        path: content for path, content in contents.items() if not path.stem.startswith(OTHER_TASKS)
    }
    for path in contents.keys() - instances.keys():
        labels.leave_out("annotation files of other tasks", path)
    splits = _splits(folder, list(instances or contents))
    used: set[Path] = set()
    names: dict[str, None] = {}
    for path, split in sorted(splits.items(), key=lambda item: (item[1] != "train", item[0])):
        reader = CocoFile(folder, path, contents[path], labels)
        names.update(dict.fromkeys(reader.names.values()))
        for image in reader.images(split):
            if image.path in used:
                raise UserError(
                    f"{path}: image '{image.path}' is in another annotation file, too; remove it "
                    "from one of them"
                )
            used.add(image.path)
            labels.images.append(image)
    for image_path in folder.images:
        if image_path not in used:
            labels.leave_out("images that no annotation file lists", image_path)
    labels.classes = list(names)
    return labels


def _splits(folder: Folder, paths: list[Path]) -> dict[Path, SplitName | None]:
    """Return the split of each annotation file; UserError if two have one."""
    splits = {path: _split_of(folder, path) for path in paths}
    first_of: dict[SplitName | None, Path] = {}
    for path, split in splits.items():
        other = first_of.setdefault(split, path)
        if other != path:
            name = f"split '{split}'" if split else "no split by name or folder"
            raise UserError(
                f"{path}: has {name}, as {other} has; give each annotation file another split "
                "(train.json, val.json, test.json), or remove one"
            )
    if None in first_of and len(first_of) > 1:
        raise UserError(
            f"{first_of[None]}: neither its name nor its folder names a split, but those of others "
            "do; rename it to train.json, val.json or test.json, or remove it"
        )
    return splits


def _split_of(folder: Folder, path: Path) -> SplitName | None:
    """Return the split that the name of an annotation file or its folder states."""
    words = [word.lower() for word in re.findall(r"[A-Za-z]+", path.stem)]
    by_name = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)
    return by_name or folder.split_of(path)


class CocoFile:
    """One annotation file; ``names``: class names by the ids of its categories."""

    def __init__(self, folder: Folder, path: Path, content: Record, labels: Labels) -> None:
        self.folder, self.path, self.labels = folder, path, labels
        lists = [self._list(content, key) for key in ("categories", "images", "annotations")]
        categories, self.image_records, self.annotations = lists
        self.faults = Faults()
        self._require(categories, "categories", CATEGORY_KEYS)
        self.faults.refuse()
        for root in roots(categories, self.annotations, None):
            categories.remove(root)
            labels.note("categories that are the supercategory of others and no class", path)
        names = [category["name"] for category in categories]
        checked_classes(names, f"{path}: 'categories'")
        self.names: dict[int, str] = {one["id"]: one["name"] for one in categories}

    def images(self, split: SplitName | None) -> list[LabeledImage]:
        """Return the images of the file that exist, with their boxes."""
        self._require(self.image_records, "images", IMAGE_KEYS)
        self.faults.refuse()
        by_id = {record["id"]: self._image(record, split) for record in self.image_records}
        for position, record in enumerate(self.annotations):
            self._add_box(record, position, by_id)
        self.faults.refuse()
        images = [image for image in by_id.values() if image]
        if by_id and not images:
            name = self.image_records[0]["file_name"]
            raise UserError(
                f"{self.path}: none of its {len(by_id)} images exists below {self.folder.root}; "
                f"'{name}' is the first; put the images there"
            )
        return images

    def _list(self, content: Record, key: str) -> list[Any]:
        records = content.get(key)
        if not isinstance(records, list):
            fault = "must be a list" if key in content else "is missing"
            raise UserError(f"{self.path}: key '{key}': {fault}; export the annotations again")
        return records

    def _require(self, records: list[Any], key: str, kinds: dict[str, Any]) -> None:
        """Record the faults of records, and repeated ids."""
        ids: set[int] = set()
        for position, record in enumerate(records):
            place = f"{self.path}: {key}[{position}]"
            fault = fault_of(record, kinds)
            if fault:
                self.faults.add(place, f"{fault}; correct it, or export again")
            elif record["id"] in ids:
                self.faults.add(place, f"id {record['id']} is used twice; export again")
            else:
                ids.add(record["id"])

    def _image(self, record: Record, split: SplitName | None) -> LabeledImage | None:
        stem = self.path.stem.removeprefix("instances_")
        here, root = self.path.parent, self.folder.root
        places = [here / stem, root / stem, root / "images" / stem, here, here / "images"]
        words = [word for word, name in SPLIT_WORDS.items() if name == split]
        places += [base / word for word in words for base in (root, root / "images")]
        path = self.folder.find_image(record["file_name"], *places, root / "images")
        if path is None:
            place = f"{self.path}: {record['file_name']}"
            self.labels.leave_out("images of annotation files that do not exist", place)
            return None
        size = (record.get("width"), record.get("height"))
        has_size = all(map(POSITIVE[0], size))
        return LabeledImage(path, self.path, split=split, size=size if has_size else None)  # type: ignore[arg-type]

    def _add_box(self, record: Any, position: int, by_id: dict[int, LabeledImage | None]) -> None:
        place = f"{self.path}: annotations[{position}]"
        if isinstance(record, dict) and "bbox" not in record:
            record = {**record, **self._outline(record, place)}
        fault = fault_of(record, ANNOTATION_KEYS)
        if fault:
            self.faults.add(place, f"{fault}; correct it, or export again")
        elif record["image_id"] not in by_id:
            self.faults.add(place, f"no image has id {record['image_id']}; correct 'image_id'")
        elif record["category_id"] not in self.names:
            self.faults.add(
                place, f"no category has id {record['category_id']}; correct 'category_id'"
            )
        elif not FLAG[0](record.get("iscrowd", 0)):
            self.faults.add(place, f"'iscrowd' must be 0 or 1, not {record['iscrowd']!r}")
        elif image := by_id[record["image_id"]]:
            left, top, width, height = map(float, record["bbox"])
            image.boxes.append(
                LabeledBox(
                    self.names[record["category_id"]],
                    (left, top, width, height),
                    f"annotations[{position}]",
                    crowd=bool(record.get("iscrowd")),
                    ignored=bool(record.get("ignore")),
                )
            )

    def _outline(self, record: Record, place: str) -> Record:
        """Return the box around a polygon or a mask, if the annotation has one."""
        outline = record.get("segmentation")
        box = _around(outline)
        if box is None:
            return {}
        self.labels.note("outlines without a box, replaced by the boxes around them", place)
        return {"bbox": list(box)}


def _around(outline: Any) -> Box | None:
    """Return the box around polygons, or around a mask in run-length encoding; None if empty."""
    if isinstance(outline, list):
        try:
            across = [float(v) for polygon in outline for v in polygon[0::2]]
            down = [float(v) for polygon in outline for v in polygon[1::2]]
        except (TypeError, ValueError):
            return None
        if not across or not down:
            return None
        return min(across), min(down), max(across) - min(across), max(down) - min(down)
    if isinstance(outline, dict) and {"size", "counts"} <= outline.keys():
        from hotcoco import mask

        try:
            if isinstance(outline["counts"], list):
                outline = mask.frPyObjects(outline, *outline["size"])
            left, top, across_size, down_size = map(float, mask.toBbox(outline))
        except Exception:  # hotcoco's decoder raises many types
            return None
        return left, top, across_size, down_size
    return None


def load(path: Path) -> Any:
    """Return the content of a JSON file; UserError if it is not JSON."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; export it again") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}; export it again") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}; change its permission"
        ) from None
