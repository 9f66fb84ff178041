"""Names of the forms of an exported detector."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from kd.common.errors import UserError, suggest

Form = Literal["mmdet", "onnx", "torchscript"]
FORMS: tuple[Form, ...] = get_args(Form)


def check_forms(names: Sequence[str]) -> list[Form]:
    """Return names of forms; UserError for an unknown one."""
    for name in names:
        if name not in FORMS:
            raise UserError(f"--forms {name}: no such form; {suggest(name, FORMS)}")
    return cast(list[Form], list(names))


def check_folder(folder: Path) -> None:
    """Raise UserError if the folder for an export is a file or the directory of a run."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder}: is a file; give a folder")
    if (folder / "run.json").exists():
        raise UserError(
            f"--to {folder}: is the directory of a run, whose mmdet_config.py the export would "
            "replace; give another folder"
        )
