"""A finished study of a classifier teacher and nine detectors, one failed, and its bundle."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from analysis.bundle.write import BundleOptions, write_bundle
from analysis.statistics import resampled
from kd.classifiers.evaluation import PREDICTIONS, metrics
from kd.cli.main import main
from kd.common.files import sha256, write_json, write_predictions
from kd.config.composed import read_config
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import ClassifierRun, Run
from kd.config.selection import StudyOptions
from kd.evaluation.evaluate import measure, truth_of
from kd.records import inputs
from tests.analysis.fakes import write_detections
from tests.support.paths import REPOSITORY
from tests.support.tiny import edit, make_project

IMAGES = {None: 4, "rm": 6, "dicod": 7, "rm+pfi": 8}
"""Test images, of 8, in which runs of each method detect all objects."""
REASON = "CUDA out of memory"


class Bundled(NamedTuple):
    """A project with a finished study, and its bundle."""

    project: Path
    plan: Plan
    file: Path


def tiny_plan() -> Plan:
    return plan("tiny", "tiny", Library(), StudyOptions(seeds=2))


def bundle(path: Path, weights: bool = False) -> Path:
    """Write the bundle of the tiny study."""
    options = BundleOptions(path, weights, "CC-BY-4.0")
    return write_bundle(tiny_plan(), "tiny", "tiny", options).path


def write_predictions_of(run: ClassifierRun) -> None:
    """Write all files of a finished classifier that is right about half of its crops."""
    digest = write_origin(run)
    records = [{"image": 1, "label": 0, "predicted": crop % 2, "score": 0.9} for crop in range(8)]
    write_predictions(run.directory / PREDICTIONS, records)
    predicted = {"version": 1, "data": "da7a", "weights": digest}
    inputs.record(run.directory, "prediction", predicted)
    config = read_config(run.directory)
    write_json(run.directory / "metrics.json", metrics(config, run.directory / PREDICTIONS))


def write_origin(run: Run | ClassifierRun) -> str:
    """Write weights and provenance of a run; return the digest of the weights."""
    run.write()
    directory = run.directory
    (directory / "weights.pth").write_bytes(run.name.encode())
    digest = sha256(directory / "weights.pth")
    write_json(
        directory / "provenance.json",
        {
            "started": "2026-01-02T03:04:05+00:00", "finished": "2026-01-02T04:04:05+00:00",
            "seconds": 60.0, "gpu_seconds": 0.0, "images_per_second": 20.0, "peak_memory_mb": 900,
            "commit": "c0ffee", "packages": {"torch": "2.11.0", "kd-detection": "7.6.5"},
            "python": "3.11.7", "user": "ada", "weights_sha256": digest,
        },
    )  # fmt: skip
    return digest


def write_results(run: Run) -> None:
    """Write all files of a finished run that detects the objects of some images."""
    digest, directory = write_origin(run), run.directory
    truth = truth_of(directory, Library())
    last = IMAGES[run.method] - run.seed
    objects = [one for one in truth.coco["annotations"] if one["image_id"] <= last]
    write_detections(
        directory, [(one["image_id"], one["category_id"] - 1, one["bbox"], 0.9) for one in objects]
    )
    predicted = {"version": 1, "data": truth.fingerprint, "weights": digest}
    predicted["detections"] = sha256(directory / "detections.json.gz")
    inputs.record(directory, "prediction", predicted)
    measure(directory, Library())
    resampled.write(directory, Library())


@pytest.fixture(scope="package")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundled]:
    """Return a study whose last run failed, with its bundle, in the study's project."""
    project = make_project(tmp_path_factory.mktemp("bundled"))
    shutil.copy(REPOSITORY / "Snakefile", project)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        edit("configs/datasets/shapes-tiny.yaml", license="CC0")
        edit(
            "configs/studies/tiny.yaml",
            tables__pair__methods=["rm", "dicod", "rm+pfi"],
            tables__pair__classifiers={"general": "smoke"},
        )
        assert main(["check", "shapes-tiny", "--check-report", "results/checks/tiny.json"]) == 0
        planned = tiny_plan()
        for classifier in planned.classifiers.values():
            write_predictions_of(classifier)
        *runs, last = planned.runs.values()
        for run in runs:
            write_results(run)
        last.write()
        failure = {"reason": REASON, "kind": "RuntimeError", "time": "2026-01-02T05:00:00+00:00"}
        write_json(last.directory / "failure.json", failure)
        yield Bundled(project, planned, bundle(project / "tiny.zip"))
