"""What an analysis reads of detectors, and which of them offer it."""

from collections.abc import Sequence
from pathlib import Path

from analysis.runs.groups import RunGroup
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.config.library import Library
from kd.observers.heads import offered


def check(
    needs: frozenset[str], groups: Sequence[RunGroup], teacher: Path, library: Library
) -> None:
    """Refuse detectors that do not offer ``needs``, keys of ``kd.observers.OBSERVABLE``."""
    taught_by = read_json(teacher / "run.json")["detector"]
    where = {teacher: taught_by} | {each.directory: each.identity["detector"] for each in groups}
    for directory, detector in where.items():
        lacking = needs - offered(library.detector(detector, str(directory)).model)
        if lacking:
            listed = " and ".join(sorted(lacking))
            raise UserError(
                f"{directory}: detector '{detector}' does not offer {listed}, which this analysis "
                f"reads; these do: {', '.join(_offering(needs, library))}"
            )


def _offering(needs: frozenset[str], library: Library) -> list[str]:
    names = library.names("detectors")
    return [name for name in names if needs <= offered(library.detector(name, "detectors").model)]
