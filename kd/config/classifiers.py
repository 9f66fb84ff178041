"""Composition of classifier teachers: their crops and their configuration."""

from importlib.util import find_spec
from typing import Any

from kd.common.errors import UserError
from kd.config.compose import classes_of
from kd.config.library import Library
from kd.config.parts import Classifier, Schedule
from kd.config.recipes.optimization import training
from kd.config.run import ClassifierRun, Crops
from kd.data.entry import Dataset

CUTTING_VERSION = 1  # raise it if equal settings give other crops; all crops are then cut again
TIMM = "timm/"
"""Prefix of the names of timm's classifiers."""
NORMALIZATION: dict[str, dict[str, list[float]]] = {
    "general": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
    "ssd": {"mean": [123.675, 116.28, 103.53], "std": [1.0, 1.0, 1.0]},
}
"""Mean and standard deviation by family: RGB, 0 to 255."""


def classifier_run(
    name: str, scale: str, dataset: str, seed: int, library: Library, where: str
) -> ClassifierRun:
    """Return the training of a classifier on the objects of a data set."""
    return ClassifierRun(
        scale=scale,
        dataset=dataset,
        schedule=library.classifier(name, where).schedule,
        classifier=name,
        seed=seed,
        config=compose_classifier(name, dataset, seed, library, where),
    )


def compose_classifier(
    name: str, dataset_name: str, seed: int, library: Library, where: str
) -> dict[str, Any]:
    """Return the configuration of a classifier's training as plain data that mmengine loads."""
    part = library.classifier(name, where)
    if part.architecture.startswith(TIMM) and find_spec("timm") is None:
        raise UserError(
            f"configs/classifiers/{name}.yaml: architecture '{part.architecture}' needs timm; run "
            "`pip install timm` (the extra 'timm' of this project), or name a classifier of "
            "torchvision"
        )
    schedule = library.schedule(part.schedule, f"configs/classifiers/{name}.yaml: key 'schedule'")
    if schedule.norm != "BN":
        raise UserError(
            f"configs/classifiers/{name}.yaml: schedule '{part.schedule}' has 'norm: "
            f"{schedule.norm}', but classifiers have the BN of torchvision; use 'norm: BN'"
        )
    dataset = library.dataset(dataset_name, where)
    classes = classes_of(dataset_name, dataset)
    crops = Crops(crop_settings(dataset_name, dataset, part.margin, part.min_side))
    return {
        "default_scope": "mmdet",
        "custom_imports": {"imports": ["kd.runtime"], "allow_failed_imports": False},
        "model": {
            "type": "ObjectClassifier",
            "architecture": part.architecture,
            "classes": len(classes),
            "size": part.size,
            "loss": part.loss,
            "init": _init(schedule, name, where),
            **NORMALIZATION[part.family],
        },
        "crops": crops.settings,
        "train_dataloader": {
            "batch_size": schedule.batch_size,
            "num_workers": 0,
            "sampler": {"type": "BalancedSampler" if part.balanced else "EpochSampler"},
            "dataset": {
                "type": "SeededDataset",
                "seed": seed,
                "dataset": _objects(crops, "train", classes, part),
            },
            "collate_fn": {"type": "default_collate"},
        },
        "test_dataloader": {
            "batch_size": schedule.batch_size,
            "num_workers": 0,
            "sampler": {"type": "EpochSampler", "shuffle": False},
            "dataset": _objects(crops, "test", classes, part),
            "collate_fn": {"type": "default_collate"},
        },
        "test_cfg": {"type": "TestLoop"},
        "test_evaluator": [],
        **training(schedule),
        "randomness": {"seed": seed},
    }


def _init(schedule: Schedule, name: str, where: str) -> str:
    """Return the initial weights of a classifier; UserError if they are a detector's."""
    if isinstance(schedule.init, str):
        return schedule.init
    raise UserError(
        f"{where}: the schedule of classifier '{name}' starts from a detector; set its 'init' to "
        "imagenet or scratch"
    )


def crop_settings(name: str, dataset: Dataset, margin: float, min_side: int) -> dict[str, Any]:
    """Return everything that the crops of a data set depend on, except the data."""
    unused = dict.fromkeys(("fetch", "metric", "image_size", "val", "group_by_aspect"), True)
    return {
        "version": CUTTING_VERSION,
        "dataset": name,
        "entry": dataset.model_dump(mode="json", exclude={**unused, "generate": {"val"}}),
        "margin": margin,
        "min_side": min_side,
    }


def _objects(crops: Crops, split: str, classes: list[str], part: Classifier) -> dict[str, Any]:
    return {
        "type": "ObjectCrops",
        "folder": str(crops.directory),
        "split": split,
        "classes": classes,
        "size": part.size,
        "augmentation": part.family if split == "train" else None,
    }
