"""ZIP files of a bundle: equal contents give equal bytes."""

import gzip
import hashlib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from kd.common.errors import UserError
from kd.common.files import replacing, sha256

DATE = (1980, 1, 1, 0, 0, 0)
"""Time of every member, the earliest that the format holds."""
PACKED = (".gz", ".npz", ".png", ".pth")
"""Ends of names whose contents are compressed already."""
REGULAR_FILE = 0o100644 << 16
"""Attributes of a member: a file that its owner may write and all may read."""


@dataclass(frozen=True)
class Member:
    """A file of a bundle: its name there, with ``/``, and its content or the file that holds it."""

    name: str
    content: Path | bytes

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content in hexadecimal digits."""
        if isinstance(self.content, Path):
            return sha256(self.content)
        return hashlib.sha256(self.content).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the content."""
        content = self.content
        return content.stat().st_size if isinstance(content, Path) else len(content)


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON with sorted keys."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def packed_json(value: Any) -> bytes:
    """Return a value as gzipped JSON without a time stamp."""
    return gzip.compress(json.dumps(value, sort_keys=True).encode(), 6, mtime=0)


def write_archive(path: Path, members: Iterable[Member]) -> None:
    """Write members in the order of their names, without their times and owners."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for member in sorted(members, key=lambda member: member.name):
            entry = zipfile.ZipInfo(member.name, DATE)
            entry.create_system, entry.external_attr = 3, REGULAR_FILE
            is_packed = member.name.endswith(PACKED)
            entry.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
            content = member.content
            archive.writestr(entry, content.read_bytes() if isinstance(content, Path) else content)


def extract_archive(path: Path, folder: Path) -> list[str]:
    """Write the members of a bundle to a folder; return their names.

    UserError for a damaged file, and for a name that would be written outside the folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            for name in names:
                place = PurePosixPath(name)
                if place.is_absolute() or ".." in place.parts or "\\" in name:
                    raise UserError(f"{path}: its file '{name}' is outside the bundle; distrust it")
            if len(set(names)) < len(names):
                raise UserError(f"{path}: has two files of one name; get the bundle again")
            archive.extractall(folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: not a bundle, or damaged ({error}); get it again") from None
    return names
