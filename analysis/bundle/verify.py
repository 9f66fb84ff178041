"""Verify a bundle: compute its tables again from the detections in it (``kd bundle --verify``)."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.bundle import crate
from analysis.bundle.archive import extract_archive
from analysis.bundle.differences import count, csv_differences, differences, line_differences
from analysis.bundle.table_rows import FILE as ROWS
from analysis.bundle.table_rows import TableRows
from analysis.bundle.truth import read_truth, truth_file
from analysis.matching.outcomes import MatchedRun, read_arrays, write_arrays
from analysis.statistics import resampled
from kd.classifiers import evaluation as classifiers
from kd.common.errors import UserError
from kd.common.files import read_json, sha256, uncollected, write_json
from kd.common.progress import progress
from kd.common.results import RESULTS, results_folder
from kd.config.composed import read_config
from kd.data.entry import SplitName
from kd.evaluation.evaluate import DETECTIONS, metrics_of
from kd.evaluation.stored import read_detections
from kd.records import inputs

SPLITS: tuple[SplitName, ...] = ("test", "val")
RESAMPLING_POINTS = 1e-3
"""AP points: above the rounding of the recorded float32."""


@dataclass
class Verification:
    """Counts of what was computed again, and the differences."""

    files: int = 0
    results: int = 0
    """Results of runs on a split that were measured again."""
    numbers: int = 0
    """Metrics that were compared."""
    detections: int = 0
    missing: list[str] = field(default_factory=list)
    """Directories of runs without results, such as failed ones."""
    differences: list[str] = field(default_factory=list)

    def note(self, place: str, lines: Iterator[str]) -> None:
        """Add differences in a file."""
        self.differences += [f"{place}: {line}" for line in lines]


def verify_bundle(path: Path) -> Verification:
    """Compute a bundle's numbers again from its detections; return the differences.

    UserError for a file that is no bundle, and for one of another version.
    """
    result = Verification()
    archive = path.resolve()
    with tempfile.TemporaryDirectory(prefix="kd-bundle-") as folder:
        names = extract_archive(archive, Path(folder))
        with contextlib.chdir(folder):
            _compare_digests(path, names, result)
            rows = TableRows.read(Path(ROWS))
            directories = _run_directories(names)
            for run in progress(directories, len(directories), "measuring runs again"):
                _measure_again(run, result)
            _compare_tables(rows, result)
    return result


def _compare_digests(path: Path, names: list[str], result: Verification) -> None:
    """Compare every file with its digest in the metadata."""
    if crate.FILE not in names:
        raise UserError(f"{path}: has no {crate.FILE}, so it is no bundle of `kd bundle`")
    document = read_json(Path(crate.FILE))
    try:
        digests = {item["@id"]: item["sha256"] for item in document["@graph"] if "sha256" in item}
    except (KeyError, TypeError):
        raise UserError(f"{path}: {crate.FILE} lists no files; get the bundle again") from None
    for name in names:
        if name != crate.FILE and digests.get(name) != sha256(Path(name)):
            state = "differs from its digest" if name in digests else "is not in the metadata"
            result.differences.append(f"{name}: {state}")
    result.differences += [f"{name}: absent" for name in digests if name not in set(names)]
    result.files = len(names)


def _run_directories(names: list[str]) -> list[Path]:
    folders = (f"{RESULTS}/runs/", f"{RESULTS}/classifiers/")
    is_run = (name for name in names if name.startswith(folders) and name.endswith("/run.json"))
    return sorted(Path(name).parent for name in is_run)


def _measure_again(run: Path, result: Verification) -> None:
    """Replace the metrics of a run by those of its detections, and note the differences."""
    is_classifier = run.is_relative_to(RESULTS / "classifiers")
    if not (run / "metrics.json").exists():
        result.missing.append(str(run))
    for split in SPLITS:
        folder = results_folder(run, split)
        if not (folder / "metrics.json").exists():
            continue
        if is_classifier:
            computed = classifiers.metrics(read_config(run), folder / classifiers.PREDICTIONS)
        else:
            computed = _detector_metrics(run, split, result)
        file = folder / (classifiers.PREDICTIONS if is_classifier else DETECTIONS)
        digest = inputs.recorded(folder, "evaluation").get("detections")
        if digest not in (None, sha256(file)):
            result.differences.append(f"{file}: others than those that metrics.json records")
        recorded = read_json(folder / "metrics.json")
        result.note(f"{folder / 'metrics.json'}", differences(recorded, computed))
        result.results, result.numbers = result.results + 1, result.numbers + count(recorded)
        write_json(folder / "metrics.json", computed)


def _detector_metrics(run: Path, split: SplitName, result: Verification) -> dict[str, Any]:
    """Return the metrics of a detector; replace those of resampled images."""
    folder = results_folder(run, split)
    truth = read_truth(truth_file(_dataset_of(run), split))
    with uncollected():
        detections = read_detections(folder / DETECTIONS, truth)
        metrics = metrics_of(detections, truth)
    result.detections += len(detections.score)
    file = folder / resampled.FILE
    if file.exists():
        recorded = read_arrays(file)
        samples = resampled.samples_of(MatchedRun.of(truth, detections))
        for name, values in samples.items():
            close = np.allclose(recorded[name], values, 0, RESAMPLING_POINTS, equal_nan=True)
            if not close:
                result.differences.append(f"{file}: {name} of resampled images differs")
        write_arrays(file, split=recorded["split"], **samples)
    computed: dict[str, Any] = metrics.model_dump()
    return computed


def _dataset_of(run: Path) -> str:
    identity = read_json(run / "run.json")
    name = identity.get("dataset") if isinstance(identity, dict) else None
    if not isinstance(name, str):
        raise UserError(f"{run / 'run.json'}: names no data set; get the bundle again")
    return name


def _compare_tables(rows: TableRows, result: Verification) -> None:
    """Compare the tables with those of the recomputed metrics."""
    for name, computed in rows.tables().items():
        file = Path(rows.folder, name)
        if not file.exists():
            result.differences.append(f"{file}: absent")
            continue
        recorded = file.read_text(encoding="utf-8")
        compare = csv_differences if name.endswith(".csv") else line_differences
        result.note(str(file), compare(recorded, computed))


def describe(path: Path, result: Verification) -> str:
    """Return what was verified, and the differences, in lines."""
    lines = [
        f"{path}: {result.files} files; {result.results} results of runs measured again from "
        f"{result.detections:,} detections, {result.numbers:,} metrics; tables computed again."
    ]
    if result.missing:
        lines.append(f"Without results: {', '.join(result.missing)}")
    lines.append(
        "Taken from the records, as detections do not contain them: hours, energy, memory, speed, "
        "sizes of networks, and published numbers."
    )
    if result.differences:
        lines += [f"{len(result.differences)} differences:", *result.differences]
    else:
        lines.append("No difference: every digest, metric and table agrees.")
    return "\n".join(lines)
