"""Labels of a folder in one form, whatever format they have."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from kd.common.errors import UserError
from kd.data.entry import SplitName

Box = tuple[float, float, float, float]

SPLIT_WORDS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}  # type: ignore[assignment]
"""Splits by the names of their folders, files and keys in other tools."""


class LabeledBox(NamedTuple):
    """One object of an image."""

    name: str
    """Name of its class."""
    xywh: Box
    """Left, top, width and height, in the unit of its image."""
    where: str
    """Place in the label file, such as ``line 3``."""
    crowd: bool = False
    ignored: bool = False
    """True for an object that VOC marks as difficult."""


@dataclass
class LabeledImage:
    """An image file with its objects."""

    path: Path
    source: Path
    """File with its labels, which messages name."""
    boxes: list[LabeledBox] = field(default_factory=list)
    split: SplitName | None = None
    """Split that the folder states."""
    size: tuple[int, int] | None = None
    """Width and height in pixels as the labels state them."""
    unit: Literal["pixels", "fractions"] = "pixels"
    """Unit of the boxes: pixels, or fractions of width and height of the image."""


class Oddity(NamedTuple):
    """Something in a folder that is left out, or used although it looks odd."""

    kind: str
    """Title of all that have the same reason, in the plural: ``boxes without area``."""
    place: str
    """File, and line or object in it."""


@dataclass
class Labels:
    """The labels of a folder."""

    title: str
    """Name of the format, such as ``Pascal VOC``."""
    classes: list[str]
    images: list[LabeledImage]
    left_out: list[Oddity] = field(default_factory=list)
    notes: list[Oddity] = field(default_factory=list)

    def leave_out(self, kind: str, place: object) -> None:
        """Record something that is not used."""
        self.left_out.append(Oddity(kind, str(place)))

    def note(self, kind: str, place: object) -> None:
        """Record something that is used although it looks odd."""
        self.notes.append(Oddity(kind, str(place)))


class Faults:
    """Faults of many label files: the first is reported, with the number of others."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, place: object, reason: str) -> None:
        """Record a fault of a file or of a line in it."""
        self._texts.append(f"{place}: {reason}")

    def refuse(self) -> None:
        """Raise UserError with the first fault, if there is one."""
        if self._texts:
            more = len(self._texts) - 1
            rest = f" (and {more} more such fault{'s' * (more > 1)})" if more else ""
            raise UserError(self._texts[0] + rest)


def checked_classes(names: list[str], place: object) -> list[str]:
    """Return class names; UserError if there is none, or if one is empty or repeated."""
    if not names:
        raise UserError(f"{place}: lists no class; add the names of the classes")
    for name in names:
        if not name.strip():
            raise UserError(f"{place}: a class has an empty name; name it")
        if names.count(name) > 1:
            raise UserError(f"{place}: class '{name}' is listed twice; rename one, or merge both")
    return names
