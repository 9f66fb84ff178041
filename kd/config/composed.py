"""Typed view of a composed configuration, and the configuration of its detector for mmdet."""

from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any, Literal

from kd.common import nested
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.config import canonical
from kd.data.entry import SplitName

Kind = Literal["detector", "distiller", "classifier"]
KINDS: dict[str, Kind] = {"Distiller": "distiller", "ObjectClassifier": "classifier"}
"""Kind by registered name of the model; every other model is a detector."""
CHECKPOINTS = {"teacher": "checkpoint", "classifier": "classifier_checkpoint"}
"""Keys of a distiller that hold the paths of its teachers' weights, by teacher."""
Settings = dict[str, Any]

MMDET_CONFIG = "mmdet_config.py"
"""File of a run with the configuration that mmdet's ``init_detector`` reads."""
UNKNOWN_TO_MMDET = ("VGG16", "CompleteSSDHead")
"""Classes of ``kd.models`` that no class of mmdet replaces in predictions."""
DARKNET_CHANNELS = 32
"""``base_channels`` of mmdet's Darknet, which has no other width."""


@dataclass(frozen=True)
class ComposedConfig:
    """Read-only view of a composed configuration.

    The plain dict is what ``config.json`` holds and what digests are computed from. The view names
    its parts and checks nothing, so it is not a second schema.
    """

    settings: Settings

    @classmethod
    def read(cls, directory: Path) -> "ComposedConfig":
        """Read the configuration of a run; UserError if its directory holds none."""
        return cls(read_config(directory))

    @property
    def kind(self) -> Kind:
        return KINDS.get(self.settings["model"]["type"], "detector")

    # --- Networks --------------------------------------------------------------------------

    @property
    def model(self) -> Settings:
        """The whole model; a distiller holds student, teachers and method terms."""
        return canonical.built_model(self.settings)

    @property
    def student(self) -> Settings:
        """The network that is trained: a distiller's student, otherwise the whole model."""
        return canonical.detector(self.settings)

    @property
    def teacher(self) -> Settings | None:
        """The detector that teaches."""
        return self.model.get("teacher")

    @property
    def classifier(self) -> Settings | None:
        """The classifier that teaches."""
        return self.model.get("classifier")

    @property
    def teacher_checkpoints(self) -> dict[str, Path]:
        """Files of the teachers' weights; a kind of teacher that the run lacks is absent."""
        paths = {teacher: self.model.get(key) for teacher, key in CHECKPOINTS.items()}
        return {teacher: Path(path) for teacher, path in paths.items() if path}

    def require_teachers(self, directory: Path) -> None:
        """Raise a UserError if a teacher of the run in ``directory`` has no weights."""
        for path in self.teacher_checkpoints.values():
            if not path.exists():
                raise UserError(
                    f"{path}: no such checkpoint; it teaches {directory}, so train it first: "
                    f"`kd train {path.parent}`"
                )

    @property
    def terms(self) -> dict[str, Settings]:
        """Settings of the method terms by name; empty without a method."""
        return self.model.get("methods", {})

    @property
    def imagenet_source(self) -> str | None:
        """The ImageNet weights that the student starts from, as its model names them."""
        if self.kind == "classifier":
            return self.model["architecture"] if self.model["init"] == "imagenet" else None
        return (self.student.get("backbone", {}).get("init_cfg") or {}).get("checkpoint")

    @property
    def norm(self) -> str | None:
        """The normalization of the student's backbone, such as ``SyncBN``."""
        return (self.student.get("backbone", {}).get("norm_cfg") or {}).get("type")

    # --- Data ------------------------------------------------------------------------------

    @property
    def crops(self) -> Settings | None:
        """Settings of the crops that a classifier is trained on."""
        return self.settings.get("crops")

    def has_split(self, split: SplitName) -> bool:
        return f"{split}_dataloader" in self.settings

    def loader(self, split: SplitName) -> Settings:
        return self.settings[f"{split}_dataloader"]

    def dataset(self, split: SplitName) -> Settings:
        """Return the outermost data set of a split."""
        return self.loader(split)["dataset"]

    def readers(self, split: SplitName) -> list[Settings]:
        """Return the data sets of a split that read files, without those that wrap them."""
        return nested.readers(self.dataset(split))

    def pipelines(self, split: SplitName) -> list[list[Settings]]:
        """Return the transforms of every data set of a split, outer data sets first."""
        return nested.pipelines(self.dataset(split))

    def image_sizes(self, split: SplitName) -> list[tuple[int, int]]:
        """Return the largest width and height in pixels that each pipeline of a split outputs."""
        sizes = map(nested.image_size, self.pipelines(split))
        return [size for size in sizes if size is not None]

    @property
    def class_names(self) -> list[str]:
        """The classes in label order."""
        return nested.class_names(self.dataset("test"))

    # --- Training --------------------------------------------------------------------------

    @property
    def published_checkpoint(self) -> Settings | None:
        """Published weights, which are imported in place of a training."""
        return self.settings.get("published_checkpoint")

    @property
    def initial_checkpoint(self) -> Settings | None:
        """Published weights of a detector that the training of the student starts from."""
        return self.settings.get("initial_checkpoint")

    @property
    def batch_size(self) -> int:
        """Training images of a step, of all processes together."""
        return self.loader("train")["batch_size"]

    @property
    def epochs(self) -> int:
        """Epochs that are trained: all of the schedule, or those up to ``stop_epoch``."""
        train_cfg = self.settings["train_cfg"]
        return train_cfg.get("stop_epoch", train_cfg["max_epochs"])

    @property
    def learning_rate(self) -> float:
        """The rate of the whole batch."""
        return self.settings["optim_wrapper"]["optimizer"]["lr"]

    @property
    def precision(self) -> str:
        return self.settings["optim_wrapper"].get("precision", "float32")

    @property
    def seed(self) -> int:
        return self.settings["randomness"]["seed"]


def without_imagenet(settings: Settings) -> Settings:
    """Return a configuration whose student starts from random weights."""
    config, model = ComposedConfig(settings), settings["model"]
    if config.imagenet_source is None:
        return settings
    if config.kind == "classifier":
        return {**settings, "model": {**model, "init": "scratch"}}
    student = model["student"] if config.kind == "distiller" else model
    backbone = {key: value for key, value in student["backbone"].items() if key != "init_cfg"}
    student = {**student, "backbone": backbone}
    model = {**model, "student": student} if config.kind == "distiller" else student
    return {**settings, "model": model}


def read_config(directory: Path) -> Settings:
    """Return a run's composed configuration; UserError if the directory holds none.

    A configuration that an earlier version wrote is returned as this version composes it.
    """
    path = directory / "config.json"
    settings = read_json(path)
    if not isinstance(settings, dict) or "model" not in settings:
        raise UserError(
            f"{path}: not a composed configuration; `kd compose STUDY --write` writes one"
        )
    return canonical.composed_form(settings)


def mmdet_config(config: Settings) -> Settings:
    """Return the configuration from which mmdet's ``init_detector`` builds the run's detector.

    It names mmdet's classes and imports nothing of this project, unless mmdet lacks a class of the
    detector: VGG-16, SSD's head and a Darknet of another width.
    """
    composed = ComposedConfig(config)
    model = {key: value for key, value in composed.student.items() if key != "observer"}
    imports = {"custom_imports": config["custom_imports"]}
    if not _needs_project(model):
        model, imports = canonical.canonical_detector(model), {}
    model["backbone"] = _mmdet_backbone(model["backbone"])
    dataset = {
        "type": "BaseDetDataset",
        "metainfo": {"classes": composed.class_names},
        "pipeline": [_mmdet_transform(one) for one in composed.pipelines("test")[0]],
    }
    return {
        "default_scope": "mmdet",
        **imports,
        "model": model,
        "test_dataloader": {"dataset": dataset},
    }


def mmdet_config_text(config: Settings) -> str:
    """Return ``mmdet_config`` as Python source, because mmdet refuses lists in place of tuples."""
    parts = mmdet_config(config).items()
    return "".join(f"{key} = {pformat(value, sort_dicts=False)}\n" for key, value in parts)


def _needs_project(model: Settings) -> bool:
    backbone = model["backbone"]
    types = (backbone["type"], model.get("bbox_head", {}).get("type"))
    if any(kind in UNKNOWN_TO_MMDET for kind in types):
        return True
    is_darknet = backbone["type"] == "ScalableDarknet"
    return is_darknet and backbone["base_channels"] != DARKNET_CHANNELS


def _mmdet_backbone(backbone: Settings) -> Settings:
    """Return a backbone's settings without initial weights, which the run's weights replace."""
    ours = {"Darknet": "base_channels", "SwinTransformer": "unread_maps"}
    unused = {"init_cfg", ours.get(backbone["type"])}
    return {key: value for key, value in backbone.items() if key not in unused}


def _mmdet_transform(transform: Settings) -> Settings:
    """Return a transform of mmdet that computes the same image."""
    if transform["type"] not in ("FitInto", "PadInto"):
        return transform
    size = (transform["width"], transform["height"])
    if transform["type"] == "FitInto":
        return {"type": "Resize", "scale": size, "keep_ratio": True}
    return {"type": "Pad", "size": size, "pad_val": {"img": (transform["value"],) * 3}}
