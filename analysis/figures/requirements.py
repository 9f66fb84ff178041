"""Check that detectors offer the outputs that an analysis reads."""

from collections.abc import Sequence
from pathlib import Path

from analysis.runs.groups import RunGroup
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.config.library import Library


def check(
    needs: frozenset[str], groups: Sequence[RunGroup], teacher: Path, library: Library
) -> None:
    """Raise a UserError if a detector lacks one of ``needs`` (``kd.observers.OBSERVABLE``)."""
    detectors = {teacher: read_json(teacher / "run.json")["detector"]}
    detectors |= {group.directory: group.identity["detector"] for group in groups}
    for directory, detector in detectors.items():
        lacking = needs - library.detector(detector, str(directory)).offered
        if lacking:
            suitable = [
                name
                for name in library.names("detectors")
                if needs <= library.detector(name, "detectors").offered
            ]
            raise UserError(
                f"{directory}: detector '{detector}' does not offer "
                f"{' and '.join(sorted(lacking))}, which this analysis reads; "
                f"these do: {', '.join(suitable)}"
            )
