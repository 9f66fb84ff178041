"""Files that the page links to: tables, pictures and their numbers."""

import base64
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from analysis.tables.csv_file import to_csv
from analysis.tables.rows import ResultRow


class Download(NamedTuple):
    """A file that the page offers."""

    label: str
    address: str
    """A data URI, or a path relative to the page."""
    name: str
    """Name under which a browser saves it."""


def tables(rows: Sequence[ResultRow], folder: Path, page_folder: Path, name: str) -> list[Download]:
    """Return the rows as CSV, which the page embeds, and the written tables and claims."""
    text = base64.b64encode(to_csv(rows).encode()).decode()
    embedded = Download("CSV, all columns", f"data:text/csv;base64,{text}", f"{name}.csv")
    files = {
        "LaTeX": ("table.tex", f"{name}.tex"),
        "Markdown": ("table.md", f"{name}.md"),
        "Claims": ("claims.md", f"{name}-claims.md"),
    }
    return [
        embedded,
        *(
            Download(label, relative(folder / file, page_folder), saved)
            for label, (file, saved) in files.items()
            if (folder / file).exists()
        ),
    ]


def existing(paths: Iterable[Path], page_folder: Path) -> list[str]:
    """Return the addresses of those files that exist."""
    return [relative(path, page_folder) for path in paths if path.exists()]


def relative(path: Path, page_folder: Path) -> str:
    """Return the address of a file relative to a page."""
    return Path(os.path.relpath(path, page_folder)).as_posix()


def by_kind(addresses: Iterable[str]) -> dict[str, list[str]]:
    """Return addresses by the kind of file, such as ``PNG``."""
    kinds: dict[str, list[str]] = {}
    for address in addresses:
        kinds.setdefault(Path(address).suffix.removeprefix(".").upper(), []).append(address)
    return kinds
