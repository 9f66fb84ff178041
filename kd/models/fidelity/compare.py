"""Differences between a composed configuration and one of mmdet's configuration files.

    comparison = compare(run.config, "retinanet_r50_fpn_1x_coco")

Both are brought to one form (``kd.models.fidelity.forms``): model, transforms of training and test
images, schedule and data. A setting that only one side states equals the default of its class.
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kd.models.fidelity.defaults import with_defaults
from kd.models.fidelity.forms import form_of_composed, form_of_mmdet
from kd.models.fidelity.mmdet_files import read_mmdet

Settings = dict[str, Any]


class Absent:
    """Type of ``ABSENT``, the value of a setting that one side does not have."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


class Difference(NamedTuple):
    """Setting that differs: its dotted path, our value and mmdet's."""

    path: str
    ours: Any
    mmdets: Any


@dataclass
class MmdetComparison:
    """Result of a comparison: the settings that differ, and the number of equal ones."""

    differences: list[Difference] = field(default_factory=list)
    equal: int = 0
    """Settings that at least one side states and that are equal."""

    def part(self, *names: str) -> list[Difference]:
        """Return the differences in parts such as ``model`` or ``schedule.optimizer``."""
        return [
            difference
            for difference in self.differences
            if any(f"{difference.path}.".startswith(f"{name}.") for name in names)
        ]


def compare(config: Settings, name: str) -> MmdetComparison:
    """Compare a composed configuration with mmdet's file ``<name>.py``.

    UserError if the installed mmdet has no such file.
    """
    comparison = MmdetComparison()
    ours, mmdets = form_of_composed(config), form_of_mmdet(read_mmdet(name), name)
    _walk(comparison, "", ours, mmdets, is_explicit=True)
    return comparison


def _walk(
    comparison: MmdetComparison, path: str, ours: Any, mmdets: Any, *, is_explicit: bool
) -> None:
    """Add the differences below ``path``; ``is_explicit``: one side states the setting."""
    if isinstance(ours, dict) and isinstance(mmdets, dict):
        _walk_dicts(comparison, path, ours, mmdets, is_explicit)
    elif _is_list_of_dicts(ours) and _is_list_of_dicts(mmdets) and len(ours) == len(mmdets):
        for index, pair in enumerate(zip(ours, mmdets, strict=True)):
            _walk(comparison, f"{path}.{index}", *pair, is_explicit=is_explicit)
    elif not _equal(ours, mmdets):
        comparison.differences.append(Difference(path, ours, mmdets))
    elif is_explicit:
        comparison.equal += 1


def _walk_dicts(
    comparison: MmdetComparison, path: str, ours: Settings, mmdets: Settings, is_explicit: bool
) -> None:
    explicit = ours.keys() | mmdets.keys()
    if "type" in ours and ours["type"] == mmdets.get("type"):
        ours, mmdets = with_defaults(ours), with_defaults(mmdets)
    for key in dict.fromkeys([*ours, *mmdets]):
        inner = f"{path}.{key}" if path else str(key)
        values = ours.get(key, ABSENT), mmdets.get(key, ABSENT)
        _walk(comparison, inner, *values, is_explicit=is_explicit and key in explicit)


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _equal(ours: Any, mmdets: Any) -> bool:
    if isinstance(ours, list) and isinstance(mmdets, list):
        return len(ours) == len(mmdets) and all(map(_equal, ours, mmdets))
    numbers = int | float
    if isinstance(ours, numbers) and isinstance(mmdets, numbers):
        both_flags = isinstance(ours, bool) == isinstance(mmdets, bool)
        return both_flags and math.isclose(ours, mmdets, rel_tol=1e-9)
    return bool(ours == mmdets)
