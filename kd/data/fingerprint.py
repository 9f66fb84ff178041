"""Fingerprints of a data set's splits, cached until a file of the data set changes."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.common.results import RESULTS
from kd.data.builtin.shapes import MARKER, marker_of
from kd.data.entry import CocoSplit, Dataset
from kd.data.readers import read_split

SPLITS = ("train", "test")
"""Splits that every data set has, and its cache file."""


def fingerprints(name: str, dataset: Dataset) -> dict[str, str]:
    """Return the SHA-256 of each split's content (``Scan.fingerprint``), by the split's name.

    They are cached in ``results/checks`` with the sizes and modification times of all files, so
    the files of an unchanged data set are listed but not read. Raise UserError if a split is absent
    or malformed.
    """
    cache = cache_file(name)
    stamp = stamp_of(dataset)
    recorded = read_cache(cache)
    if recorded.get("stamp") == stamp:
        return {split: recorded[split] for split in dataset.splits}
    content: dict[str, str] = {
        split: read_split(dataset, split).fingerprint for split in dataset.splits
    }
    write_json(cache, {"stamp": stamp, **content})
    return content


def content_of(name: str, dataset: Dataset) -> str:
    """Return a text that changes whenever a fingerprint changes, for a workflow to compare.

    The text of a built-in data set is its settings, which are known before it is generated, unless
    a file was changed afterwards. The text of an absent data set has the last fingerprints, because
    a finished study stays finished without its data. A malformed data set gets a separate text; its
    check reports the reason.
    """
    if dataset.generate and not _edited(Path(dataset.root)):
        return str(marker_of(dataset.generate))
    try:
        content = fingerprints(name, dataset)
    except UserError:
        content = last_fingerprints(name)
        if not content or Path(dataset.root).exists():
            return f"unreadable {stamp_of(dataset)}"
    return " ".join(f"{split} {fingerprint}" for split, fingerprint in content.items())


def _edited(root: Path) -> bool:
    """Return True if a file of a built-in data set is newer than its generation."""
    try:
        generated_at = (root / MARKER).stat().st_mtime_ns
    except FileNotFoundError:  # not generated yet
        return False
    return any(status.st_mtime_ns > generated_at for _, status in _files(str(root)))


def last_fingerprints(name: str) -> dict[str, str]:
    """Return the fingerprints computed last, if any, without reading the data set."""
    recorded = read_cache(cache_file(name))
    return {split: value for split, value in recorded.items() if split != "stamp"}


def cache_file(name: str) -> Path:
    """Return the file that caches the fingerprints of the data set ``name``."""
    return RESULTS / "checks" / f"{name}.fingerprints.json"


def read_cache(path: Path) -> dict[str, str]:
    """Return the content of a cache file, empty if the file is absent or not a cache."""
    try:
        content = read_json(path)
    except UserError:
        return {}
    complete = isinstance(content, dict) and content.keys() >= {"stamp", *SPLITS}
    return content if complete else {}


def stamp_of(dataset: Dataset) -> str:
    """Return a digest of the entry and of each file's path, size and modification time.

    It changes whenever a fingerprint may have changed. Files are listed but not read.
    """
    digest = hashlib.sha256(dataset.model_dump_json().encode())
    for folder in sorted(_folders(dataset)):
        for path, status in _files(folder):
            digest.update(os.fsencode(f"{path} {status.st_size} {status.st_mtime_ns}\n"))
    return digest.hexdigest()


def _folders(dataset: Dataset) -> set[str]:
    """Return the files and folders with the annotations and images of all splits."""
    places: set[Path] = set()
    for name in dataset.splits:
        places |= {*dataset.listings(name)}
        split = getattr(dataset, name)
        if isinstance(split, CocoSplit):
            places |= {Path(dataset.root, split.images)}
        else:
            for listing in split:
                folder = Path(dataset.root, listing).parent
                places |= {folder / "Annotations", folder / "JPEGImages"}
    return {str(place) for place in places}


def _files(place: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files at or below ``place`` sorted by name, and nothing if it is absent."""
    try:
        with os.scandir(place) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except NotADirectoryError:
        yield place, os.stat(place)
        return
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _files(entry.path)
        else:
            try:
                yield entry.path, entry.stat()
            except FileNotFoundError:  # a broken link
                continue
