"""Index of mmdet's model zoo, which mmdet's wheel contains: names, addresses and reported AP."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.common.schema import read_yaml

PACKAGE = "mmdet"
FILES = Path(".mim")
"""Folder of the package that holds the index and the configurations."""
INDEX = "metafile.yml"
DIGEST = re.compile(r"-([0-9a-f]{8})\.pth$")
"""End of a file's name: the first digits of its SHA-256."""


@dataclass(frozen=True)
class IndexLine:
    """A detector in the index."""

    name: str
    folder: str
    """Folder of mmdet's configurations."""
    config: Path
    """File of its configuration."""
    address: str
    """Address of its weights."""
    sha256: str
    """First digits of the SHA-256 of its weights."""
    ap: float | None
    """AP that mmdet reports on COCO's validation images."""
    epochs: int | None


def lines_in(folder: str) -> dict[str, IndexLine]:
    """Return the detectors of a folder with published weights, by name."""
    path = _root() / "configs" / folder / INDEX
    if not path.is_file():
        raise UserError(f"{path}: no such file; install the version of mmdet in requirements.lock")
    return dict(_read(path))


def every_line() -> Iterator[IndexLine]:
    """Yield all detectors with published weights. It takes seconds."""
    for path in sorted((_root() / "configs").glob(f"*/{INDEX}")):
        yield from lines_in(path.parent.name).values()


@cache
def _root() -> Path:
    """Return the folder of the index; UserError without one. It does not import mmdet."""
    spec = find_spec(PACKAGE)
    folders = [Path(place) for place in spec.submodule_search_locations or []] if spec else []
    for folder in folders:
        if (folder / FILES).is_dir():
            return folder / FILES
    raise UserError(
        f"no index of mmdet's model zoo in {folders[0] / FILES if folders else PACKAGE}; install "
        "mmdet from its wheel, as requirements.lock names it"
    )


@cache
def _read(path: Path) -> tuple[tuple[str, IndexLine], ...]:
    content = read_yaml(path)
    models = content.get("Models") or [] if isinstance(content, dict) else content
    return tuple((model["Name"], _line(model, path)) for model in models if _address(model))


def _line(model: dict[str, Any], path: Path) -> IndexLine:
    address = _address(model)
    metrics = [result.get("Metrics") for result in model.get("Results") or []]
    aps = [metric.get("box AP") for metric in metrics if isinstance(metric, dict)]
    digest = DIGEST.search(address)
    assert digest
    return IndexLine(
        name=model["Name"],
        folder=path.parent.name,
        config=_root() / model["Config"],
        address=address,
        sha256=digest[1],
        ap=next((float(ap) for ap in aps if ap is not None), None),
        epochs=(model.get("Metadata") or {}).get("Epochs"),
    )


def _address(model: dict[str, Any]) -> str:
    """Return the address of the weights, empty if there are none with a digest in their name."""
    address = model.get("Weights")
    return address if isinstance(address, str) and DIGEST.search(address) else ""
