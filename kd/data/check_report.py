"""Reading of ``results/checks/<data set>.json``, which ``kd check`` writes."""

from pathlib import Path
from typing import Any, NamedTuple

from kd.common.errors import UserError
from kd.common.files import read_json


class SplitSize(NamedTuple):
    """Size of a split."""

    images: int
    boxes: int
    loaded: int
    """Images that the loader yields, without those that training skips."""


class CheckReport(NamedTuple):
    """The values of a check's report that plans and runs depend on."""

    splits: dict[str, SplitSize]
    fingerprint: str
    left_out: int
    """Boxes that are left out of the data set."""


def read_report(path: Path) -> CheckReport:
    """Return the report of a data set's check; raise UserError if the file is not a report."""
    try:
        content = read_json(path)
        names = list(dict.fromkeys(["train", "test", *content["splits"]]))
        return CheckReport(
            {name: _size(content["splits"][name]) for name in names},
            _text(content["fingerprint"]),
            sum(_left_out(content["splits"][name], content["dirt"]) for name in names),
        )
    except (UserError, KeyError, TypeError, ValueError):
        if not path.exists():
            raise
        raise UserError(
            f"{path}: not a report of `kd check`; delete it, and write it again with "
            f"`kd check {path.stem} --check-report {path}`"
        ) from None


def _size(counts: Any) -> SplitSize:
    # Reports of earlier versions do not count the images that are loaded.
    values = (counts["images"], counts["boxes"], dict(counts).get("loaded", counts["images"]))
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError
    return SplitSize(*values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _left_out(counts: Any, dirt: Any) -> int:
    if not isinstance(dirt, list):
        raise ValueError
    return int(counts.get("left_out", 0))  # absent from reports of earlier versions
