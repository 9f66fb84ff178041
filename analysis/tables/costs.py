"""What the runs of a table took."""

from collections.abc import Iterable
from pathlib import Path

from kd.resources.usage import Usage, read_usage


def total(runs: Iterable[Path]) -> Usage:
    """Return what several runs took together, each counted once; unfinished ones took nothing yet.

    Hours and energy are sums, energy None where that of any run is unknown; images per second are
    the mean over the time, memory is the highest peak.
    """
    found = [each for run in dict.fromkeys(map(Path, runs)) if (each := read_usage(run))]
    trained = [each for each in found if each.images_per_second is not None]
    hours = sum((each.hours for each in found), 0.0)
    images = sum(each.hours * (each.images_per_second or 0.0) for each in trained)
    energies = [each.energy_kwh for each in found if each.energy_kwh is not None]
    return Usage(
        hours,
        sum((each.gpu_hours for each in found), 0.0),
        images / hours if hours else None,
        max((each.memory_mb for each in trained if each.memory_mb is not None), default=None),
        sum(energies) if found and len(energies) == len(found) else None,
    )
