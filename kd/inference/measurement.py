"""Measurement of several detectors together, recorded in the directories of their runs."""

import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from kd.common.files import sha256
from kd.inference.detector import ReadyDetector
from kd.inference.latency import LatencyExtent, measure, measured_images, summarize
from kd.inference.latency_table import DetectorRow, counts_of
from kd.inference.loading import is_run, load_detector, weights_file
from kd.records.latency import Conditions, Latency, write_latency
from kd.records.provenance import environment, now


def measure_sources(
    sources: Sequence[Path], device: str | None, size: tuple[int, int] | None, extent: LatencyExtent
) -> list[DetectorRow]:
    """Measure the detectors of several sources in turn, and write ``latency.json`` of each run.

    Exports are measured, too; they have no such file.

    ``size``: width and height of the network's images (default: those of each run).
    """
    began = now()
    names = _names(sources)
    detectors = {name: load_detector(path, device, size) for name, path in names.items()}
    images, origin = measured_images(sources)
    times = measure(detectors, images, extent)
    rows = [
        DetectorRow(
            name,
            path,
            _conditions(detectors[name], origin),
            times[name],
            *counts_of(path, detectors[name].size),
            weights_file(path).stat().st_size,
        )
        for name, path in names.items()
    ]
    for row in rows:
        _record(row, rows, extent, began)
    return rows


def _names(sources: Sequence[Path]) -> dict[str, Path]:
    """Return sources by name: the folders of a run's detector and training, ``gfl-r18/alone``.

    Runs that share them also have the folder of their seed, and others their whole path. An export
    has the name of its file and folder.
    """
    forms = [
        [_last_folders(path, 3, 1) if is_run(path) else _export_name(path) for path in sources],
        [_last_folders(source, 3, 0) for source in sources],
        [str(source) for source in sources],
    ]
    names = {}
    for place, source in enumerate(sources):
        candidates = (form[place] for form in forms if form.count(form[place]) == 1)
        names[next(filter(None, candidates))] = source
    return names


def _export_name(source: Path) -> str:
    return "/".join(weights_file(source).absolute().parts[-2:])


def _last_folders(path: Path, first: int, last: int) -> str:
    """Return the folders of a path from the ``first`` to the ``last`` from its end."""
    return "/".join(path.parts[-first : len(path.parts) - last])


def _conditions(detector: ReadyDetector, images: str) -> Conditions:
    on_gpu = detector.device.startswith("cuda")
    name = torch.cuda.get_device_name(detector.device) if on_gpu else _processor()
    threads = None if on_gpu else torch.get_num_threads()
    return Conditions(name, detector.runtime, threads, *detector.size, images)


def _processor() -> str:
    return environment()["cpu"] or platform.machine()


def _record(
    row: DetectorRow, rows: Sequence[DetectorRow], extent: LatencyExtent, began: str
) -> None:
    """Write the latency of a run; a file is not a run."""
    if not is_run(row.source):
        return
    facts = {
        "warm_up": extent.warm_up,
        "in_turn_with": [str(other.source) for other in rows if other is not row],
        "weights_sha256": sha256(weights_file(row.source)),
        "environment": environment(),
    }
    write_latency(row.source, Latency(row.conditions, summarize(row.times), began), facts)
