"""Total usage of the runs of a table."""

from collections.abc import Iterable
from pathlib import Path

from kd.resources.usage import Usage, read_usage


def total_usage(runs: Iterable[Path]) -> Usage:
    """Return the usage of several runs together, each counted once; unfinished runs used nothing.

    Hours and energy are sums; energy is None if that of any run is unknown. Images per second are
    the mean over the time, memory is the highest peak.
    """
    usages = [usage for run in dict.fromkeys(runs) if (usage := read_usage(run))]
    trainings = [usage for usage in usages if usage.images_per_second is not None]
    hours = sum((usage.hours for usage in usages), 0.0)
    images = sum(usage.hours * (usage.images_per_second or 0.0) for usage in trainings)
    energies = [usage.energy_kwh for usage in usages if usage.energy_kwh is not None]
    peaks = [usage.memory_mb for usage in trainings if usage.memory_mb is not None]
    return Usage(
        hours,
        sum((usage.gpu_hours for usage in usages), 0.0),
        images / hours if hours else None,
        max(peaks, default=None),
        sum(energies) if usages and len(energies) == len(usages) else None,
    )
