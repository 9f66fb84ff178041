"""Crops on disk: all encoded images of a split in one file, and an index of their offsets.

``<split>.bin``: the images, one after another; ``<split>.npz``: arrays with an entry per crop;
``<split>.json``: data set, number of crops and of objects left out. The JSON file is written last,
so it exists only if the other two are complete.
"""

import io
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd.common.errors import UserError
from kd.common.files import read_json, replacing, write_json


class Crop(NamedTuple):
    """An encoded crop, and the object's label, image id and box in the crop (xyxy, pixels)."""

    data: bytes
    label: int
    image: int
    box: tuple[float, float, float, float]


def write_pack(folder: Path, split: str, crops: Iterable[Crop], facts: dict[str, Any]) -> None:
    """Write a split atomically; ``facts`` goes into its JSON file."""
    facts_file = folder / f"{split}.json"
    facts_file.unlink(missing_ok=True)
    lengths, labels, images, boxes = [], [], [], []
    with replacing(folder / f"{split}.bin") as temporary, open(temporary, "wb") as stream:
        for crop in crops:
            stream.write(crop.data)
            lengths.append(len(crop.data))
            labels.append(crop.label)
            images.append(crop.image)
            boxes.append(crop.box)
        stream.flush()
    ends = np.cumsum(lengths, dtype=np.int64)
    with replacing(folder / f"{split}.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            offset=ends - lengths,
            length=np.array(lengths, np.int64),
            label=np.array(labels, np.int64),
            image=np.array(images, np.int64),
            box=np.array(boxes, np.float32),
        )
    write_json(facts_file, {**facts, "crops": len(lengths), "bytes": sum(lengths)})


class Pack:
    """Crops of a split: labels (N,), image ids (N,) and boxes (N, 4; xyxy in the crop, pixels)."""

    def __init__(self, folder: Path, split: str) -> None:
        self.path = folder / f"{split}.bin"
        self.facts = read_facts(folder, split)
        if self.facts is None:
            raise UserError(f"{folder}: no complete crops of the split '{split}'; {remedy(folder)}")
        with np.load(folder / f"{split}.npz", allow_pickle=False) as index:
            self.offsets, self.lengths = index["offset"], index["length"]
            self.labels, self.images, self.boxes = index["label"], index["image"], index["box"]

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return list(self.facts["classes"]) if self.facts else []

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Return a crop with its margin: (height, width, 3), RGB."""
        start, length = self.offsets[index], self.lengths[index]
        with Image.open(io.BytesIO(self._bytes[start : start + length])) as image:
            return np.array(image.convert("RGB"))

    @cached_property
    def _bytes(self) -> Any:
        # Opened at the first read, so that each data loading process has its own map.
        return np.memmap(self.path, np.uint8, mode="r")


def read_facts(folder: Path, split: str) -> dict[str, Any] | None:
    """Return the content of a split's JSON file, None if the split is not complete."""
    try:
        facts = read_json(folder / f"{split}.json")
        complete = facts["bytes"] == (folder / f"{split}.bin").stat().st_size
        return facts if complete and (folder / f"{split}.npz").is_file() else None
    except (UserError, OSError, KeyError, TypeError, json.JSONDecodeError):
        return None


def remedy(folder: Path) -> str:
    """Return the command that makes the crops, for a message."""
    return f"make them: kd crops {folder}"
