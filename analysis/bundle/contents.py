"""Files of a study's bundle: configurations, results of every run, ground truth, tables."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from analysis.bundle.archive import Member
from kd.classifiers.evaluation import PREDICTIONS
from kd.common.errors import UserError
from kd.common.results import VALIDATION
from kd.config.compose import WEIGHTS
from kd.data.fingerprint import cache_file
from kd.evaluation.evaluate import DETECTIONS

RUN_FILES = {
    "run.json": "names of a run's parts",
    "config.json": "composed configuration of a run",
    "mmdet_config.py": "detector and test pipeline of a run, for mmdet",
    "provenance.json": "origin of a run: code, software, machine, time, digests",
    "failure.json": "reason of a failed run",
    "log.jsonl": "losses of a training by step",
    "train.log": "printed lines of a training",
    "predict.log": "printed lines of a prediction",
    "validation.jsonl": "metrics during a training",
    "metrics.json": "metrics of a run",
    "model.json": "size of a network",
    "latency.json": "inference latency of a network",
    "resampled.npz": "metrics on resampled test images",
    "README.md": "description for readers",
    DETECTIONS: "detections of a run",
    PREDICTIONS: "predictions of a classifier teacher",
    "inputs/training.json": "digests of the inputs of a training",
    "inputs/prediction.json": "digests of the inputs of a prediction",
    "inputs/evaluation.json": "digests of the inputs of metrics",
    "inputs/resampling.json": "digests of the inputs of resampled metrics",
}
"""Files of a run that a bundle has, also in its folder ``val``, with descriptions."""
FOLDERS = {
    "configs": "configuration",
    "workflow": "workflow",
    "truth": "annotated objects of a split",
    "results/checks": "fingerprints of a data set",
    "results": "tables, figures or report of the study",
}
"""Descriptions of other files by their folder."""
STUDY_FOLDERS = ("gains", "figures", "paper")
"""Folders of a study's results that a bundle has."""
SNAKEFILE = "Snakefile"
WORKFLOW_FILES = (SNAKEFILE, "workflow/rules/*.smk", "workflow/report/*")


def run_members(run: Path, weights: bool) -> list[Member]:
    """Return the files of a run's directory; empty for a run that never began.

    UserError for a run with metrics whose detections are absent, because it cannot be verified,
    and for one whose ``weights`` are wanted and absent.
    """
    if weights and (run / "provenance.json").exists() and not (run / WEIGHTS).is_file():
        raise UserError(f"{run / WEIGHTS}: no such file; bundle without --weights")
    for folder in (run, run / VALIDATION):
        has_predictions = any((folder / name).exists() for name in (DETECTIONS, PREDICTIONS))
        if (folder / "metrics.json").exists() and not has_predictions:
            option = f" --split {VALIDATION}" if folder != run else ""
            raise UserError(
                f"{folder / DETECTIONS}: no such file, so metrics.json cannot be verified; predict "
                f"again: kd predict {run}{option}"
            )
    names = [*RUN_FILES, *(f"{VALIDATION}/{name}" for name in RUN_FILES)]
    names += [WEIGHTS] if weights else []
    paths = (run / name for name in names)
    return [Member(path.as_posix(), path) for path in paths if path.is_file()]


def study_members(folder: Path) -> Iterator[Member]:
    """Yield tables, figures and report in the folder of a study's results."""
    for path in sorted(folder.glob("*")):
        if path.is_file() and path.suffix in (".csv", ".md", ".tex", ".html"):
            yield Member(path.as_posix(), path)
    for name in STUDY_FOLDERS:
        yield from _files_below(folder / name)


def project_members(study: str) -> Iterator[Member]:
    """Yield the workflow and the configurations, without other studies."""
    if not Path(SNAKEFILE).is_file():
        raise UserError(
            f"{SNAKEFILE}: no such file; `kd init FOLDER` writes a project that has one"
        )
    for pattern in WORKFLOW_FILES:
        for path in sorted(Path().glob(pattern)):
            yield Member(path.as_posix(), path)
    for member in _files_below(Path("configs")):
        path = Path(member.name)
        if path.parent.name != "studies" or path.stem == study:
            yield member


def check_members(datasets: Iterable[str]) -> Iterator[Member]:
    """Yield the files with the fingerprints of data sets, which tables compare runs with."""
    for name in datasets:
        path = cache_file(name)
        if path.is_file():
            yield Member(path.as_posix(), path)


def describe_file(path: PurePosixPath) -> str:
    """Return a description of a file of a bundle."""
    names = (path.name, f"{path.parent.name}/{path.name}")
    if text := next((RUN_FILES[name] for name in names if name in RUN_FILES), None):
        return text
    parents = [*map(str, path.parents), ""]
    return next((FOLDERS[name] for name in parents if name in FOLDERS), "file of the bundle")


def has_record(run: Path) -> bool:
    """Return True for a run that finished or failed."""
    return any((run / name).exists() for name in ("provenance.json", "failure.json"))


def _files_below(folder: Path) -> Iterator[Member]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield Member(path.as_posix(), path)
