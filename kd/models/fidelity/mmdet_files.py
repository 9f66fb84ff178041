"""mmdet's own configuration files, which its wheel contains."""

from functools import cache
from pathlib import Path
from typing import Any

import mmdet
from mmengine.config import Config

from kd.common.errors import UserError, suggest

Settings = dict[str, Any]
FOLDER = Path(mmdet.__file__).parent / ".mim" / "configs"


@cache
def files() -> dict[str, Path]:
    """Return the files of mmdet's configurations by name, without those that others build on."""
    paths = sorted(FOLDER.rglob("*.py"))
    return {path.stem: path for path in paths if "_base_" not in path.relative_to(FOLDER).parts}


def read_mmdet(name: str) -> Settings:
    """Return a configuration of mmdet as plain data; UserError if there is none of that name."""
    paths = files()
    if name not in paths:
        raise UserError(
            f"mmdet {mmdet.__version__}: no configuration '{name}'; {suggest(name, paths)}"
        )
    return plain(Config.fromfile(str(paths[name])).to_dict())


def plain(value: Any) -> Any:
    """Return settings with lists in place of tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
