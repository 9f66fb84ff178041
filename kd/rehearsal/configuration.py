"""Configuration of a rehearsal: that of the run, with few steps and the rehearsals' data."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.common import fetch
from kd.common.errors import UserError
from kd.common.nested import readers, walk
from kd.config.classifiers import crop_settings
from kd.config.composed import CHECKPOINTS, ComposedConfig, without_imagenet
from kd.config.run import Crops
from kd.data.entry import Dataset
from kd.rehearsal.project import root_of

Settings = dict[str, Any]
GPU_STEPS, CPU_STEPS = 20, 2
"""Steps of a rehearsal by default."""
FEWEST_STEPS = 2
ALWAYS_ACTIVE = {"from_epoch": None, "until_epoch": None, "warmup_steps": 0}
"""Settings of a distillation term with which its first steps compute what later ones do."""
PREDICTED_IMAGES = 2
"""Images of each test file that a rehearsal predicts."""
PREDICTED_CROPS = 32
"""Images whose objects are cut out for a classifier."""


@dataclass(frozen=True)
class RehearsalExtent:
    """Size of a rehearsal."""

    steps: int | None = None
    """Training steps, half of them before a stop and the rest after resuming; None for
    ``GPU_STEPS`` or ``CPU_STEPS``."""
    batch: int | None = None
    """Most images of a step; None for the batch of the run."""
    images: int | None = None
    """Training images that a stand-in lists; None for as many as the data set has."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < FEWEST_STEPS:
            raise UserError(
                f"a rehearsal of {self.steps} step cannot stop and resume; make at least "
                f"{FEWEST_STEPS} (--steps, or 'rehearsal_steps')"
            )


def rehearsed(
    config: Settings, name: str, dataset: Dataset, extent: RehearsalExtent, *, on_gpu: bool
) -> Settings:
    """Return the configuration that a rehearsal trains, with paths of the rehearsals' project.

    ``name`` and ``dataset``: the data set of the run. The distillation terms are computed from the
    first step on. Gradients are measured in the first step alone.
    """
    steps = extent.steps or (GPU_STEPS if on_gpu else CPU_STEPS)
    config = copy.deepcopy(config)
    composed = ComposedConfig(config)
    for split in ("train", "test"):
        _use_data(config[f"{split}_dataloader"]["dataset"], dataset, root_of(name))
    if crops := composed.crops:
        _use_crops(config, name, dataset, crops)
    else:
        for reader in readers(config["test_dataloader"]["dataset"]):
            reader["indices"] = PREDICTED_IMAGES
    config.pop("val_dataloader", None)
    for term in composed.terms.values():
        term |= {key: value for key, value in ALWAYS_ACTIVE.items() if key in term}
    config["train_dataloader"]["batch_size"] = min(
        extent.batch or composed.batch_size, composed.batch_size
    )
    config["train_cfg"]["stop_step"] = steps
    for hook in config["custom_hooks"]:
        if hook["type"] == "StepLog":
            hook |= {"interval": 1, "probes": 1}
    config["custom_hooks"].append({"type": "StepTimes", "stop_after": steps // 2})
    config["custom_imports"]["imports"].append("kd.rehearsal.step_times")
    return config


def with_teachers(config: Settings, folder: Path) -> Settings:
    """Return a configuration whose teachers' weights are files of ``folder``."""
    model = dict(config["model"])
    for teacher, key in CHECKPOINTS.items():
        if model.get(key):
            model[key] = str(folder / f"{teacher}.pth")
    return {**config, "model": model}


def with_available_weights(config: Settings) -> tuple[Settings, list[str]]:
    """Return a configuration without initial weights that are absent, and the names of these.

    UserError for weights that no machine could use: damaged ones, or an unknown name.
    """
    composed, absent = ComposedConfig(config), []
    if initial := composed.initial_checkpoint:
        if not _is_present(initial):
            config = {key: item for key, item in config.items() if key != "initial_checkpoint"}
            absent.append("a published detector")
    elif composed.imagenet_source and not _has_imagenet(composed.imagenet_source):
        config = without_imagenet(config)
        absent.append("ImageNet")
    return config, absent


def _is_present(checkpoint: Settings) -> bool:
    source, digest = checkpoint["source"], checkpoint["sha256"]
    return fetch.downloaded(source, digest) is not None or Path(source).is_file()


def _has_imagenet(source: str) -> bool:
    from kd.models import imagenet

    try:
        imagenet.find(source.removeprefix(imagenet.TORCHVISION))
    except imagenet.UnreachableError:
        return False
    return True


def _use_data(settings: Settings, dataset: Dataset, root: str) -> None:
    """Set the root of all readers of a composed data set."""
    for reader in readers(settings):
        if "data_root" in reader:
            inside = Path(reader["data_root"]).relative_to(dataset.root)
            reader["data_root"] = str(Path(root, inside))


def _use_crops(config: Settings, name: str, dataset: Dataset, crops: Settings) -> None:
    """Set the crops of a classifier to those of the rehearsals' project."""
    entry = dataset.model_copy(update={"root": root_of(name), "fetch": None})
    settings = crop_settings(name, entry, crops["margin"], crops["min_side"])
    config["crops"] = settings
    for split in ("train", "test"):
        for inner in walk(config[f"{split}_dataloader"]["dataset"]):
            if "folder" in inner:
                inner["folder"] = str(Crops(settings).directory)
