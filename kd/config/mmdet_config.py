"""The detector of a run as a configuration of mmdet, without teachers, training and data."""

from pprint import pformat
from typing import Any

from kd.config.canonical import canonical_detector
from kd.config.composed import ComposedConfig

Settings = dict[str, Any]

MMDET_CONFIG = "mmdet_config.py"
"""File of a run with the configuration that mmdet's ``init_detector`` reads."""
UNKNOWN_TO_MMDET = ("VGG16", "CompleteSSDHead")
"""Classes of ``kd.models`` that no class of mmdet replaces in predictions."""
DARKNET_CHANNELS = 32
"""``base_channels`` of mmdet's Darknet, which has no other width."""


def mmdet_config(config: Settings) -> Settings:
    """Return the configuration from which mmdet's ``init_detector`` builds the run's detector.

    It names mmdet's classes and imports nothing of this project, unless mmdet lacks a class of the
    detector: VGG-16, SSD's head and a Darknet of another width.
    """
    composed = ComposedConfig(config)
    model = {key: value for key, value in composed.student.items() if key != "observer"}
    imports = {"custom_imports": config["custom_imports"]}
    if not _needs_project(model):
        model, imports = canonical_detector(model), {}
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
    unused = {"init_cfg"} | ({"base_channels"} if backbone["type"] == "Darknet" else set())
    return {key: value for key, value in backbone.items() if key not in unused}


def _mmdet_transform(transform: Settings) -> Settings:
    """Return a transform of mmdet that computes the same image."""
    if transform["type"] != "FitInto":
        return transform
    scale = (transform["width"], transform["height"])
    return {"type": "Resize", "scale": scale, "keep_ratio": True}
