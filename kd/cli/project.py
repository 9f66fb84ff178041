"""Folder of the project, found from the working directory upwards, and paths given in it."""

import os
from pathlib import Path

from kd.common.errors import UserError

MARKER = Path("configs/default.yaml")
"""File by which the project's folder is recognized."""


def find_project() -> Path | None:
    """Return the nearest folder with the project's configuration, or None outside a project."""
    here = Path.cwd()
    return next((path for path in (here, *here.parents) if (path / MARKER).is_file()), None)


def enter_project() -> None:
    """Change into the project's folder; UserError outside a project."""
    root = find_project()
    if root is None:
        raise UserError(
            f"neither {Path.cwd()} nor a folder above it is a project: {MARKER} is missing; "
            "change into one, or write one with `kd init FOLDER`"
        )
    os.chdir(root)


def project_path(text: str) -> Path:
    """Return a path given in the working directory, relative to the project's folder."""
    root, path = find_project(), Path(text)
    if root is None or root == Path.cwd() or path.is_absolute():
        return path
    return Path(os.path.relpath(path, root))


def run_word(text: str) -> str:
    """Return the directory of a run as ``project_path`` does, or a part of its name unchanged."""
    return str(project_path(text)) if os.path.exists(text) else text
