"""Files of a project: the workflow and its configuration, written to a new folder."""

import os
import shutil
import site
import sys
from collections.abc import Iterator
from pathlib import Path

import kd
from kd.common.errors import UserError
from kd.common.files import replacing, write_text
from kd.common.lists import enumerate_names

FILES = (
    *("Snakefile", "configs"),
    *(f"workflow/{name}" for name in ("profiles", "report", "rules", "scripts")),
)
"""Files and folders of a project. ``pyproject.toml`` lists them as data of the wheel."""

INSTALLED = Path("share/kd-detection")
"""Folder of these files below the prefix of an installed wheel."""

LINKS = {
    "local": "workflow/profiles/local",
    "profiles": "workflow/profiles",
    "slurm": "workflow/profiles/slurm",
}
"""Links to profiles, so that ``snakemake --profile slurm`` finds its own."""

IGNORED = ("/data/", "/results/", "/checkpoints/", "/logs/", ".snakemake/")
"""Folders of a project that git leaves out."""


def write_project(folder: Path) -> int:
    """Write the files of a project to a folder, and return their number.

    UserError if the folder has one of them already, since no file is replaced.
    """
    source = _source()
    names = (*FILES, *LINKS, ".gitignore")
    existing = [name for name in names if os.path.lexists(folder / name)]
    if existing:
        raise UserError(
            f"{folder}: {enumerate_names(existing)} exist already, and kd init replaces no file; "
            "name a new folder"
        )
    paths = [path for name in FILES for path in _files(source / name)]
    for path in paths:
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, synced=False) as temporary:
            shutil.copy(path, temporary)
    for name, profile in LINKS.items():
        (folder / name).symlink_to(profile)
    write_text(folder / ".gitignore", "".join(f"{line}\n" for line in IGNORED))
    return len(paths) + 1


def _source() -> Path:
    """Return the folder with the files: a checkout, or the data of the installed wheel."""
    root = Path(kd.__file__).resolve().parents[1]
    prefixes = (root, Path(sys.prefix), Path(site.getuserbase()))
    for folder in (root, *(prefix / INSTALLED for prefix in prefixes)):
        if (folder / FILES[0]).is_file():
            return folder
    raise UserError(f"no {INSTALLED} below {sys.prefix}; install the package again")


def _files(path: Path) -> Iterator[Path]:
    """Yield a file, or the files below a folder in order, without caches and hidden files."""
    if path.is_file():
        yield path
        return
    for child in sorted(path.iterdir()):
        if not child.name.startswith((".", "__")):
            yield from _files(child)
