"""Images and videos that a user names: files and folders."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kd.common.errors import UserError
from kd.common.files import is_waiting

RECORD = "infer.json"
"""File by which a folder of results is recognized."""
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
)


class Sources(NamedTuple):
    """Files in the order in which they are read, and the folder that their names are relative to.

    An image has its name as ``file_name`` in ``images.json``.
    """

    root: Path
    images: list[Path]
    videos: list[Path]

    def name(self, path: Path) -> str:
        """Return the name of a file, with slashes."""
        return path.relative_to(self.root).as_posix()


def list_sources(arguments: Sequence[Path], without: Path) -> Sources:
    """Return the images and videos in files and folders, each once and in sorted order.

    Folders are searched with their subfolders. Hidden files, other files, and folders of results,
    ``without`` among them, are skipped. A file that is named itself is a video if its suffix is a
    video's, otherwise an image. UserError for a path that does not exist, and if no file is left.
    """
    files: dict[Path, Path] = {}
    for argument in arguments:
        if not argument.exists():
            raise UserError(f"{argument}: no such file or folder; give images, a folder or a video")
        members = _members(argument, without) if argument.is_dir() else [argument]
        for path in members:
            files.setdefault(path.resolve(), _absolute(path))
    if not files:
        names = ", ".join(map(str, arguments))
        raise UserError(
            f"{names}: no image or video in this folder; give files, or a folder with files that "
            f"end in {', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))}"
        )
    folders = [_absolute(path) if path.is_dir() else _absolute(path).parent for path in arguments]
    root = Path(os.path.commonpath(folders))
    paths = sorted(files.values())
    images = [path for path in paths if not _is_video(path)]
    return Sources(root, images, [path for path in paths if _is_video(path)])


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _members(folder: Path, without: Path) -> Iterator[Path]:
    """Yield the images and videos in a folder and its subfolders; links are followed once."""
    visited: set[Path] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        place = Path(parent)
        if place.resolve() in visited:
            folders.clear()
            continue
        visited.add(place.resolve())
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and _absolute(place / name) != _absolute(without)
            and not (place / name / RECORD).exists()
        ]
        for name in names:
            suffix = Path(name).suffix.lower()
            if name.startswith(".") or suffix not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                continue
            if not is_waiting(place / name):
                yield place / name
