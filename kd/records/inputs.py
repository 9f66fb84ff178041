"""Inputs that the files of a run depend on, recorded by the step that computes them.

``inputs/<step>.json`` in a run's directory holds them. Training writes its record before the first
step, and a copy in each checkpoint and in ``weights.pth``. Later steps compare inputs before they
use a file of an earlier step. Tables compare runs by the same records.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from kd.classifiers.pack import read_facts, remedy
from kd.common.errors import UserError
from kd.common.files import read_json, sha256, write_json
from kd.common.lists import enumerate_names
from kd.common.nested import readers
from kd.common.results import VALIDATION, results_folder, step_arguments
from kd.config.canonical import canonical_form
from kd.config.classifiers import crop_settings
from kd.config.compose import WEIGHTS, classes_of, split_config
from kd.config.composed import CHECKPOINTS, ComposedConfig
from kd.config.library import Library
from kd.data.entry import Dataset, SplitName
from kd.data.fingerprint import fingerprints

Inputs = dict[str, Any]
Step = Literal["training", "prediction", "evaluation", "resampling"]

VERSIONS: dict[Step, int] = {"training": 1, "prediction": 1, "evaluation": 1, "resampling": 1}
"""Version of each step. Raise it when the step computes something else from the same inputs.
Methods have ``Method.version``, which is part of a run's configuration."""

NAMES = {
    "version": "version of the code",
    "configuration": "configuration",
    "data": "data",
    "teacher": "teacher's weights",
    "classifier": "classifier's weights",
    "imagenet": "ImageNet weights",
    "imported": "imported weights",
    "initial": "initial weights",
    "weights": "weights",
    "detections": "detections",
}
"""Names of all steps' inputs in messages."""
TEACHERS = tuple(CHECKPOINTS)
"""Inputs that are weights of other runs."""
LOCATION = ("type", "data_root", "ann_file", "data_prefix", "metainfo")
"""Keys of a composed data set that determine its objects and classes."""


def record(folder: Path, step: Step, inputs: Inputs) -> None:
    """Write a step's inputs."""
    write_json(record_file(folder, step), inputs)


def recorded(folder: Path, step: Step) -> Inputs:
    """Return a step's recorded inputs, empty without a record."""
    path = record_file(folder, step)
    return read_json(path) if path.exists() else {}


def record_file(folder: Path, step: Step) -> Path:
    """Return the file that records a step's inputs, in the folder of the step's results."""
    return folder / "inputs" / f"{step}.json"


def changes(old: Inputs, new: Inputs) -> str:
    """Return a clause that names the inputs that changed; empty if none did."""
    if not old:
        return "no inputs were recorded with it"
    differing = [f"the {NAMES[name]}" for name in NAMES if old.get(name) != new.get(name)]
    return f"{enumerate_names(differing)} changed since" if differing else ""


def of_training(config: dict[str, Any], directory: Path, library: Library) -> Inputs:
    """Return the inputs that the weights of a run depend on.

    UserError if a teacher is absent, or if the data set's entry changed since the run was
    composed.
    """
    inputs: Inputs = {"version": VERSIONS["training"], "configuration": config_digest(config)}
    composed = ComposedConfig(config)
    if composed.published_checkpoint:
        return {**inputs, "imported": composed.published_checkpoint["sha256"].lower()}
    inputs["data"] = split_fingerprint(config, directory, "train", library)
    for teacher, path in composed.teacher_checkpoints.items():
        inputs[teacher] = weights_digest(path)
    if composed.initial_checkpoint:
        inputs["initial"] = composed.initial_checkpoint["sha256"].lower()
    imagenet = _imagenet_file(composed.imagenet_source)
    return {**inputs, "imagenet": imagenet} if imagenet else inputs


def of_prediction(
    config: dict[str, Any],
    trained: Inputs,
    directory: Path,
    library: Library,
    split: SplitName = "test",
) -> Inputs:
    """Return the inputs that the detections of a trained run depend on.

    ``trained``: the inputs that its weights were computed from. UserError if training would use
    other inputs now. Teachers are not compared: a teacher that was trained again does not change
    what its trained student detects, and tables mark such a student.
    """
    now = of_training(config, directory, library)
    problem = changes(_without_teachers(trained), _without_teachers(now))
    if problem:
        raise UserError(
            f"{directory / WEIGHTS}: {problem}; train the run again: kd train {directory}"
        )
    return {
        "version": VERSIONS["prediction"],
        "weights": weights_digest(directory / WEIGHTS),
        "data": split_fingerprint(config, directory, split, library),
    }


def of_evaluation(
    directory: Path, predictions: Path, data: str, step: Step, split: SplitName = "test"
) -> Inputs:
    """Return the inputs that the metrics of a run's predictions on a split depend on.

    ``data``: fingerprint of the split. UserError if the predictions come from another version of
    the split or other weights than the run has now.
    """
    folder = results_folder(directory, split)
    predicted = recorded(folder, "prediction")
    digest = weights_digest(predictions)
    weights = directory / WEIGHTS
    now = {
        "version": VERSIONS["prediction"],
        "data": data,
        "weights": sha256(weights) if weights.exists() else predicted.get("weights"),
        "detections": digest,
    }
    problem = changes(predicted, now)
    if problem:
        raise UserError(
            f"{predictions}: {problem}; predict again: kd predict {step_arguments(folder)}"
        )
    return {**now, "version": VERSIONS[step]}


def outdated_results(directory: Path) -> str:
    """Return why the metrics or the provenance of a run are those of other weights; or empty.

    Files that record no weights, as those of earlier versions, are not compared.
    """
    weights = weights_digest(directory / WEIGHTS)
    if recorded(directory, "evaluation").get("weights", weights) != weights:
        return (
            f"{directory / 'metrics.json'}: the weights changed since; run "
            f"`kd predict {directory}` and `kd evaluate {directory}`"
        )
    origin = directory / "provenance.json"
    if origin.exists() and read_json(origin).get("weights_sha256", weights) != weights:
        return (
            f"{origin}: describes other weights than {WEIGHTS}; copy both files of the run, or "
            f"train it again: kd train {directory}"
        )
    return ""


def split_fingerprint(
    config: dict[str, Any], directory: Path, split: SplitName, library: Library
) -> str:
    """Return the fingerprint of a split of a run's data set.

    UserError as in ``entry_of``, and if a classifier's crops were cut from other data.
    """
    name, dataset = entry_of(config, directory, split, library)
    fingerprint = fingerprints(name, dataset)[split]
    composed = ComposedConfig(config)
    if composed.crops:
        _check_crops(Path(composed.dataset("test")["folder"]), split, fingerprint)
    return fingerprint


def entry_of(
    config: dict[str, Any], directory: Path, split: SplitName, library: Library
) -> tuple[str, Dataset]:
    """Return the name and entry of a run's data set.

    UserError if the entry has no such split, or another one or other classes than the run was
    composed with.
    """
    name = read_json(directory / "run.json")["dataset"]
    dataset = library.dataset(name, str(directory))
    composed = ComposedConfig(config)
    if split not in dataset.splits or (split == VALIDATION and composed.crops):
        remedy = "classifiers use none" if composed.crops else f"`kd split {name}` makes one"
        raise UserError(f"{directory}: no split '{split}' of data set '{name}'; {remedy}")
    if crops := composed.crops:
        same = crop_settings(name, dataset, crops["margin"], crops["min_side"]) == crops
    elif not composed.has_split(split):
        raise UserError(
            f"{directory / 'config.json'}: has no '{split}_dataloader'; compose the run again "
            "(`snakemake` does, or `kd compose STUDY --write`)"
        )
    else:
        current = split_config(dataset, split, classes_of(name, dataset), [])
        same = _locations(composed.dataset(split)) == _locations(current)
    if not same:
        raise UserError(
            f"configs/datasets/{name}.yaml: changed since {directory} was composed; compose the "
            "run again (`snakemake` does, or `kd compose STUDY --write`)"
        )
    return name, dataset


def _check_crops(folder: Path, split: SplitName, fingerprint: str) -> None:
    facts = read_facts(folder, split)
    if facts is not None and facts["fingerprint"] != fingerprint:
        raise UserError(f"{folder}: the data changed since the crops were cut; {remedy(folder)}")


def _locations(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the location of the objects of each reader of a composed data set."""
    return [{key: reader.get(key) for key in LOCATION} for reader in readers(dataset)]


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of a file of a run; UserError if it is absent."""
    try:
        return sha256(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None


def config_digest(config: dict[str, Any]) -> str:
    """Return the SHA-256 of a configuration's canonical form, whatever the order of its keys."""
    text = json.dumps(canonical_form(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_teachers(inputs: Inputs) -> Inputs:
    return {name: value for name, value in inputs.items() if name not in TEACHERS}


def _imagenet_file(source: str | None) -> str | None:
    """Return the name of the file of ImageNet weights, which ends in its digest; None without.

    The names of timm's files have no digest, so the digest of the file is added.
    """
    if source is None:
        return None
    from kd.models.imagenet import TIMM, address_of, find

    if source.startswith(TIMM):
        return f"{source}-{sha256(find(source))}"
    return address_of(source).rsplit("/", 1)[-1]
