"""Class names and splits of a folder in YOLO format: ``data.yaml``, or ``classes.txt``."""

import os
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from kd.common.errors import UserError
from kd.common.schema import read_yaml
from kd.data.entry import SplitName
from kd.start.folder import Folder
from kd.start.labels import Labels, checked_classes

SPLIT_KEYS: dict[str, SplitName] = {"train": "train", "val": "val", "valid": "val", "test": "test"}
KNOWN_KEYS = {*SPLIT_KEYS, "names", "nc"}
NAME_LISTS = ("classes.txt", "predefined_classes.txt", "obj.names", "classes.names")


@dataclass
class YoloEntry:
    """The file that names classes, and the keys of ``data.yaml`` if it is one."""

    path: Path
    classes: list[str]
    keys: dict[str, Any]

    @property
    def is_yaml(self) -> bool:
        """True for ``data.yaml``."""
        return bool(self.keys)


def yolo_entries(folder: Folder) -> list[Path]:
    """Return the YAML files that describe a data set in YOLO format."""
    paths = []
    for path in folder.of(".yaml", ".yml"):
        if path.stem.lower() in ("data", "dataset"):
            paths.append(path)
            continue
        try:
            content = read_yaml(path)
        except (UserError, OSError):
            continue
        if isinstance(content, dict) and len(KNOWN_KEYS & content.keys()) > 1:
            paths.append(path)
    return paths


def name_lists(folder: Folder) -> list[Path]:
    """Return the text files that list class names."""
    return [path for path in folder.of(".txt", ".names") if path.name.lower() in NAME_LISTS]


def read_entry(folder: Folder) -> YoloEntry:
    """Return the entry of a folder; UserError if it is absent, ambiguous or malformed."""
    entries, lists = yolo_entries(folder), name_lists(folder)
    if len(entries) > 1:
        raise UserError(
            f"{entries[0]}: {entries[1]} describes a data set, too; give a folder with one of them"
        )
    keys: dict[str, Any] = {}
    if entries:
        content = read_yaml(entries[0])
        if not isinstance(content, dict):
            raise UserError(f"{entries[0]}: must have keys such as 'names'; write 'names: [a, b]'")
        keys = content
        if "names" in keys:
            return YoloEntry(entries[0], _names(entries[0], keys), keys)
    if not lists:
        place = f"{entries[0]}: key 'names'" if entries else f"{folder.root}/data.yaml"
        raise UserError(
            f"{place}: is missing; list the class names in the order of their numbers, such as "
            "'names: [cat, dog]'"
        )
    contents = {_lines(path): path for path in lists}
    if len(contents) > 1:
        raise UserError(f"{lists[0]}: differs from {lists[1]}; delete the wrong one")
    names = checked_classes(list(next(iter(contents))), lists[0])
    return YoloEntry(entries[0] if entries else lists[0], names, keys)


def _lines(path: Path) -> tuple[str, ...]:
    text = read_text(path)
    return tuple(line.strip() for line in text.strip().splitlines())


def read_text(path: Path) -> str:
    """Return a text file; UserError if it is not UTF-8 or cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; save it in this encoding") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}; change its permission, or delete it"
        ) from None


def _names(path: Path, keys: dict[str, Any]) -> list[str]:
    """Return the names of classes in the order of their numbers."""
    value, place = keys["names"], f"{path}: key 'names'"
    if isinstance(value, dict):
        numbers = [number for number in value if isinstance(number, int)]
        if len(numbers) < len(value):
            raise UserError(f"{place}: must have numbers before the names, such as '0: cat'")
        missing = next((n for n in range(len(numbers)) if n not in value), None)
        if missing is not None:
            raise UserError(
                f"{place}: number {missing} is missing between the others; name every class from "
                f"0 to {max(numbers)}"
            )
        value = [value[number] for number in range(len(numbers))]
    if not isinstance(value, list):
        raise UserError(f"{place}: must be a list of names, not {brief(value)}; write [a, b]")
    for name in value:
        if isinstance(name, bool) or not isinstance(name, str | int | float):
            raise UserError(f"{place}: {brief(name)} is not a text; write the name in quotes")
    names = checked_classes([str(name) for name in value], place)
    if "nc" in keys and keys["nc"] != len(names):
        raise UserError(
            f"{path}: key 'nc': is {keys['nc']}, but 'names' lists {len(names)} classes; correct "
            "one of them"
        )
    return names


def split_images(
    folder: Folder, entry: YoloEntry, labels: Labels
) -> dict[Path, SplitName | None] | None:
    """Return the images of the splits that ``data.yaml`` names; None if it names no split."""
    images: dict[Path, SplitName | None] = {}
    by_split: dict[SplitName, list[Path]] = {}
    for key, split in SPLIT_KEYS.items():
        values = entry.keys.get(key)
        for value in values if isinstance(values, list) else [values] if values else []:
            if not isinstance(value, str):
                raise UserError(f"{entry.path}: key '{key}': must be a path, not {brief(value)}")
            paths = _images_of(folder, entry, key, value)
            if not paths:
                labels.note(f"splits without images ('{key}: {value}')", entry.path)
            by_split.setdefault(split, []).extend(paths)
    by_split = {split: paths for split, paths in by_split.items() if paths}
    if not by_split:
        if any(entry.keys.get(key) for key in SPLIT_KEYS):
            raise UserError(
                f"{entry.path}: key 'train': no images in the folders of its splits; correct the "
                "paths, or remove the keys of the splits, and kd start makes splits"
            )
        return None
    if len(by_split) > 1 and len({frozenset(paths) for paths in by_split.values()}) == 1:
        labels.note("splits that are the same images, which are split anew", entry.path)
        return dict.fromkeys(next(iter(by_split.values())))
    for split, paths in by_split.items():
        for path in paths:
            if images.get(path, split) != split:
                raise UserError(
                    f"{entry.path}: keys '{images[path]}' and '{split}' both contain {path}; name "
                    "separate folders"
                )
            images[path] = split
    return images


def _images_of(folder: Folder, entry: YoloEntry, key: str, value: str) -> list[Path]:
    """Return the images in a folder, or in a list of images, that ``data.yaml`` names."""
    path = _resolved(folder, entry, value)
    if path is None:
        return []
    if path.is_dir():
        return [image for image in folder.images if image.is_relative_to(path)]
    images = []
    for line in filter(None, map(str.strip, read_text(path).splitlines())):
        image = folder.find_image(line, path.parent)
        if image is None:
            raise UserError(
                f"{path}: no image '{line}' below {folder.root}, which key '{key}' of "
                f"{entry.path.name} lists; add it, or remove the line"
            )
        images.append(image)
    return images


def _resolved(folder: Folder, entry: YoloEntry, value: str) -> Path | None:
    """Return the path of a split, below the folder if it is that of another machine."""
    here, base = entry.path.parent, str(entry.keys.get("path") or "")
    parts = [part for part in Path(value.replace("\\", "/")).parts if part not in ("..", "/", ".")]
    # The last part alone, such as 'images', may be that of another split.
    tails = [Path(*parts[-count:]) for count in range(len(parts), min(len(parts), 2) - 1, -1)]
    candidates = [here / base / value, here / value, *(here / tail for tail in tails)]
    candidates += [folder.root / tail for tail in tails]
    for candidate in candidates:
        path = Path(os.path.normpath(candidate))
        if path.is_relative_to(folder.root) and path.exists():
            return path
    return None
