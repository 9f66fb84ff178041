"""Scan of a split: its content in COCO form, and all problems with it."""

import hashlib
import stat
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kd.common.errors import suggest
from kd.data.entry import Dataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Record = dict[str, Any]
Verdict = Literal["usable", "thin", "useless"]

LISTINGS = (".json", ".txt")  # suffixes of annotation files of COCO and of image sets of VOC
HASHED_WHOLE = 64 * 2**20  # image bytes of a split; larger splits are fingerprinted by size


class Problem(NamedTuple):
    """A problem with a data set, and the file that has it."""

    file: str
    reason: str

    def __str__(self) -> str:
        text = f"{self.file}: {self.reason}"
        return text.encode("utf-8", "backslashreplace").decode()  # JSON can hold half a character


@dataclass
class Scan:
    """The content of a split in COCO form, with boxes in xywh pixels.

    ``errors`` make the split unusable. ``dropped`` lists content that is left out, ``notes``
    content that is used although it looks odd. ``unlisted`` counts the boxes of classes that the
    entry does not list. ``paths`` are the image files, in the order of ``images``. ``thin``: ids of
    the annotations that training skips because less than a pixel of them lies in the image.
    ``loaded``: ids of the images that the training loader yields. ``order``: names of the listed
    categories in the order of the file. ``content``: hash of all annotation files.
    """

    images: list[Record] = field(default_factory=list)
    annotations: list[Record] = field(default_factory=list)
    categories: list[Record] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    errors: list[Problem] = field(default_factory=list)
    dropped: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    unlisted: Counter[str] = field(default_factory=Counter)
    thin: set[int] = field(default_factory=set)
    loaded: set[int] = field(default_factory=set)
    order: list[str] = field(default_factory=list)
    content: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def error(self, file: Path | str, reason: str) -> None:
        """Add an error in ``file``."""
        self.errors.append(Problem(str(file), reason))

    def read(self, path: Path, role: str, dataset: Dataset) -> bytes | None:
        """Return a file's bytes and add them to the fingerprint; add an error if it is absent."""
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            self.error(path, describe_absence(dataset, path, role, error))
            return None
        self.content.update(b"%d:" % len(data) + data)
        return data

    @cached_property
    def sizes(self) -> list[int]:
        """Size of every image file in bytes, -1 for an absent file; computed once."""
        return [size_of(path) for path in self.paths]

    def fingerprint(self) -> str:
        """Return the SHA-256 of the annotation files and of the name and size of every image.

        If the images have at most 64 MiB, their bytes are hashed, too.
        """
        digest = self.content.copy()
        for image, size in zip(self.images, self.sizes, strict=True):
            digest.update(f"{image['file_name']!r} {size}\n".encode())
        if sum(self.sizes) <= HASHED_WHOLE:
            for path in self.paths:
                digest.update(bytes_of(path))
        return digest.hexdigest()

    def judge_box(self, box: list[float], image: Record, file: Path | str, name: str) -> Verdict:
        """Return the verdict on a box (xywh pixels), and note why it is left out or looks odd.

        As in mmdet's CocoDataset, a box without area or entirely outside of the image is left out.
        A box that sticks out is used as written; training clips it when it resizes the image.
        """
        x, y, width, height = box
        is_inside = x + width <= image["width"] and y + height <= image["height"]
        if is_inside and x >= 0 and y >= 0 and width >= 2 and height >= 2:
            return "usable"  # as most boxes, so COCO is read seconds faster
        useless, thin = _useless(box, image), is_thin(box, image)
        odd = None if useless else _odd(box, image)
        for reason, problems in ((useless, self.dropped), (odd, self.notes)):
            if reason:
                numbers = ", ".join(f"{value:g}" for value in box)
                problems.append(Problem(str(file), f"box [{numbers}] (xywh) of {name} {reason}"))
        return "useless" if useless else "thin" if thin else "usable"

    def is_trainable(self, annotation: Record) -> bool:
        """Return True if training learns from an annotation; AP may count others, too."""
        return annotation["id"] not in self.thin and not any(
            annotation.get(flag) for flag in ("iscrowd", "ignore", "difficult")
        )


def is_useless(box: list[float], image: Record) -> bool:
    """Return True if a box (xywh pixels) has no area or lies outside of the image."""
    return _useless(box, image) is not None


def is_thin(box: list[float], image: Record) -> bool:
    """Return True if a box (xywh pixels), or its part in the image, is thinner than a pixel.

    mmdet's CocoDataset excludes from training only boxes that are thin themselves. A box that lies
    almost entirely outside would be clipped to no area, and its regression target would be
    infinite.
    """
    return min(*box[2:], *_visible(box, image)) < 1


def are_thin(boxes: "NDArray[np.float64]", sizes: "NDArray[np.float64]") -> "NDArray[np.bool_]":
    """Return ``is_thin`` of boxes (N, 4) in images of ``sizes`` (N, 2), width and height."""
    import numpy as np

    low, extent = boxes[:, :2], boxes[:, 2:]
    visible = np.minimum(low + extent, sizes) - np.maximum(low, 0)
    thin: NDArray[np.bool_] = np.minimum(extent, visible).min(axis=1, initial=np.inf) < 1
    return thin


def _visible(box: list[float], image: Record) -> tuple[float, float]:
    """Return width and height in pixels of a box's part in the image."""
    x, y, width, height = box
    return (
        min(x + width, image["width"]) - max(x, 0),
        min(y + height, image["height"]) - max(y, 0),
    )


def _useless(box: list[float], image: Record) -> str | None:
    if box[2] <= 0 or box[3] <= 0:
        return "has no area"
    across, down = _visible(box, image)
    return None if across > 0 and down > 0 else "lies outside the image"


def _odd(box: list[float], image: Record) -> str | None:
    x, y, width, height = box
    if width < 1 or height < 1:
        return "is thinner than a pixel: evaluation counts it, training does not"
    if min(_visible(box, image)) < 1:
        return "shows less than a pixel in the image: evaluation counts it, training does not"
    beyond = max(-x, -y, x + width - image["width"], y + height - image["height"])
    if beyond > 1:  # rounding, or counting from 0 instead of 1, explains one pixel
        return f"sticks out of the image by {beyond:g} px"
    return None


def size_of(path: Path) -> int:
    """Return a file's size in bytes, or -1 if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def bytes_of(path: Path) -> bytes:
    """Return a file's bytes, or no bytes if it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError):
        return b""


def describe_absence(
    dataset: Dataset, path: Path, role: str, error: Exception | None = None
) -> str:
    """Return a text on the missing file or folder and how to get it."""
    if error is not None and not isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"cannot read the {role}: {error}"
    root = Path(dataset.root)
    missing = f"no such {role}"
    if path != root and not root.is_dir():
        missing = f"no {role}, because there is no folder '{root}'"
    if dataset.generate:
        return (
            f"{missing}; the built-in data set is not generated yet; run `kd generate {root.name}`"
        )
    if dataset.fetch:
        return f"{missing}; {dataset.fetch.strip()}"
    return f"{missing}; {_remedy(root, path)}"


def _remedy(root: Path, path: Path) -> str:
    """Return how to repair an entry, or a data set, that lacks a file."""
    if (root / "JPEGImages").is_dir() and path.suffix == ".json":
        return f"'{root}' has the layout of VOC: set 'format: voc' in the entry"
    listings = sorted(path.parent.glob(f"*{path.suffix}")) if path.suffix in LISTINGS else []
    if listings:
        part = "stem" if path.suffix == ".txt" else "name"  # the entry names a list by its stem
        valid = suggest(getattr(path, part), (getattr(file, part) for file in listings))
        return f"correct the splits in the entry; {valid}"
    if path.suffix == ".xml" and path.parent.is_dir():
        return f"add it, or remove '{path.stem}' from the image set"
    if path.suffix == ".txt" and any(root.glob("*/*.json")):
        return f"'{root}' has annotation files of COCO: set 'format: coco' in the entry"
    if root.is_dir():
        return "add it, or correct its path or 'root' in the entry"
    return f"put the data set at '{root}' or correct 'root' in its entry"
