"""Content of a folder: its images and files by suffix, found once."""

import os
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from kd.common.errors import UserError
from kd.common.files import is_waiting
from kd.data.entry import SplitName
from kd.data.voc import SUFFIXES
from kd.start.labels import SPLIT_WORDS

WRITTEN = "kd-start"
"""Folder below ``data/NAME`` with the files that ``kd start`` writes."""
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


class Folder:
    """The files below a folder, sorted, without hidden ones; links are followed once."""

    def __init__(self, root: Path) -> None:
        _require_folder(root)
        self.root = root
        self.files: list[Path] = sorted(_walk(root))
        self._by_suffix: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            self._by_suffix[path.suffix.lower()].append(path)
        self.images = sorted(path for suffix in SUFFIXES for path in self._by_suffix[suffix])

    def of(self, *suffixes: str) -> list[Path]:
        """Return the files with any of the suffixes, in lower case."""
        return sorted(path for suffix in suffixes for path in self._by_suffix[suffix])

    @cached_property
    def image_set(self) -> set[Path]:
        """The images, for tests of membership."""
        return {*self.images}

    @cached_property
    def images_by_name(self) -> dict[str, list[Path]]:
        """The images by file name."""
        names: dict[str, list[Path]] = defaultdict(list)
        for path in self.images:
            names[path.name].append(path)
        return names

    @cached_property
    def images_by_stem(self) -> dict[Path, list[Path]]:
        """The images by their path without suffix."""
        stems: dict[Path, list[Path]] = defaultdict(list)
        for path in self.images:
            stems[path.with_suffix("")].append(path)
        return stems

    def split_of(self, path: Path) -> SplitName | None:
        """Return the split that the folders of a file name, the innermost first."""
        for part in reversed(path.relative_to(self.root).parts[:-1]):
            if part.lower() in SPLIT_WORDS:
                return SPLIT_WORDS[part.lower()]
        return None

    def find_image(self, name: str, *folders: Path) -> Path | None:
        """Return the image of a name that a label file states, or None.

        It is below one of the folders, or the only image with the last part of the name. UserError
        if several images have that last part.
        """
        relative = Path(name.replace("\\", "/"))
        if not relative.is_absolute():
            for folder in (*folders, self.root):
                path = Path(os.path.normpath(folder / relative))
                if path in self.image_set:
                    return path
        same = self.images_by_name.get(relative.name, [])
        if len(same) < 2:
            return same[0] if same else None
        ends = [path for path in same if path.as_posix().endswith(f"/{relative.as_posix()}")]
        if len(ends) == 1:
            return ends[0]
        raise UserError(
            f"{same[0]}: {len(same)} images are named '{relative.name}', and the labels name no "
            f"folder ({same[1]} is another); rename one of them, in its labels too"
        )


def _require_folder(root: Path) -> None:
    """Raise UserError for a path that is no folder of labeled images."""
    try:
        exists, is_folder = root.exists(), root.is_dir()
    except OSError as error:
        raise UserError(
            f"{root}: cannot be read: {error.strerror}; change the permission or the path"
        ) from None
    if not exists:
        raise UserError(f"{root}: no such folder; give the folder with images and labels")
    if not is_folder and (root.suffix.lower() in ARCHIVES or zipfile.is_zipfile(root)):
        raise UserError(f"{root}: is an archive; unpack it, and give the folder")
    if not is_folder:
        raise UserError(f"{root}: is a file; give the folder with images and labels")
    inside, project = root.resolve(), Path.cwd().resolve()
    for reserved in ("results", "configs"):
        if inside.is_relative_to(project / reserved):
            raise UserError(
                f"{root}: is inside '{reserved}' of the project, which the workflow writes; move "
                "the images elsewhere, such as below 'data'"
            )
    if project.is_relative_to(inside):
        raise UserError(f"{root}: contains the project; give the folder with images and labels")


def _walk(root: Path) -> Iterator[Path]:
    """Yield the files below a folder; UserError for a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read: {error.strerror}; change the permission, or move "
            "the folder away"
        )

    visited: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith((".", "__MACOSX")) and name != WRITTEN
        )
        for path in (Path(folder, name) for name in names if not name.startswith(".")):
            if not path.name.isprintable():
                _require_unicode(path)
            if not is_waiting(path):
                yield path


def _require_unicode(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: its name is not UTF-8; rename it, in its labels too") from None
