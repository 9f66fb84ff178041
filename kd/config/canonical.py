"""Composed form and canonical form of a configuration.

Composition names the classes that are built (``GlobalBatchRetinaHead``) and each detector's
observer. The canonical form has mmdet's names (``RetinaHead``), no observer but a declared one, and
no validation split. Earlier versions wrote their configurations in it. Digests and comparisons use
it, so they are equal for both forms.

A distiller's ``student`` and ``teacher`` hold their observer. The observer of a detector that is
trained alone is a key of the configuration, because mmdet's detectors accept no such argument.
"""

from collections.abc import Callable
from typing import Any

from kd.observers.heads import observer_of_model

Settings = dict[str, Any]

CLASSES = {
    "ResNet": "TruncatedResNet",
    "ResNeXt": "TruncatedResNeXt",
    "SwinTransformer": "TruncatedSwinTransformer",
    "MobileNetV2": "TruncatedMobileNetV2",
    "Darknet": "ScalableDarknet",
    "CSPNeXt": "TruncatedCSPNeXt",
    "CSPDarknet": "TruncatedCSPDarknet",
    "RTMDet": "GPUSyncRTMDet",
    "RetinaHead": "GlobalBatchRetinaHead",
    "RPNHead": "GlobalBatchRPNHead",
    "GFLHead": "GlobalBatchGFLHead",
    "YOLOV3Head": "GlobalBatchYOLOV3Head",
    "RTMDetSepBNHead": "GlobalBatchRTMDetSepBNHead",
    "YOLOXHead": "GlobalBatchYOLOXHead",
    "VFNetHead": "GlobalBatchVFNetHead",
    "TOODHead": "GlobalBatchTOODHead",
    "DDODHead": "GlobalBatchDDODHead",
    "RepPointsHead": "GlobalBatchRepPointsHead",
    "Shared2FCBBoxHead": "GlobalBatchShared2FCBBoxHead",
}
"""Classes of ``kd.models`` that a detector is built from, by the mmdet class in its place."""

LEFT_OUT = ("observer", "val_dataloader")
"""Keys of composed configurations that canonical ones lack."""

MMDET_CLASSES = {ours: mmdets for mmdets, ours in CLASSES.items()}


def composed_form(config: Settings) -> Settings:
    """Return a configuration whose detectors name our classes and their observer."""
    if not _is_detector(config.get("model")):
        return _with_networks(config, composed_detector)
    return observer_apart({**config, "model": composed_detector(detector(config))})


def observer_apart(config: Settings) -> Settings:
    """Return a configuration that holds the observer of a composed detector trained alone."""
    if not _is_detector(config["model"]):
        return config
    model = dict(config["model"])
    observer = model.pop("observer")
    return {**config, "model": model, "observer": observer}


def canonical_form(config: Settings) -> Settings:
    """Return a configuration whose detectors have mmdet's names, without observer and validation.

    The weights do not depend on the validation split, so a data set may get one later.
    """
    without = {key: value for key, value in config.items() if key not in LEFT_OUT}
    if not _is_detector(config.get("model")):
        return _with_networks(without, canonical_detector)
    return {**without, "model": canonical_detector(config["model"])}


def built_model(config: Settings) -> Settings:
    """Return the model dict of a run; that of a detector trained alone holds its observer."""
    model = config["model"]
    return {**model, "observer": config["observer"]} if "observer" in config else model


def detector(config: Settings) -> Settings:
    """Return the model dict of the detector that a run trains, with its composed observer."""
    model = built_model(config)
    return model.get("student", model)


def student_alone(config: Settings) -> Settings:
    """Return the configuration of a distilled run's student without teachers."""
    return observer_apart({**config, "model": config["model"]["student"]})


def composed_detector(model: Settings) -> Settings:
    """Return a detector's model dict with our classes and, if it has none, its observer."""
    heads = {key: value for key, value in model.items() if key.endswith("head")}
    observer = model.get("observer") or observer_of_model(_renamed(heads, MMDET_CLASSES))
    return {**_renamed(model, CLASSES), "observer": observer}


def canonical_detector(model: Settings) -> Settings:
    """Return a detector's model dict with mmdet's names.

    It has an observer only if the detector's file declares one, because methods read by it.
    """
    renamed: Settings = _renamed(model, MMDET_CLASSES)
    observer = renamed.pop("observer", None)
    if observer in (None, "maps", observer_of_model(renamed)):
        return renamed
    return {**renamed, "observer": observer}


def _with_networks(config: Settings, change: Callable[[Settings], Settings]) -> Settings:
    """Return a configuration with ``change`` applied to a distiller's student and teacher."""
    model = config.get("model")
    if not isinstance(model, dict):
        return config
    networks = {key: change(value) for key, value in model.items() if _is_detector(value)}
    return {**config, "model": {**model, **networks}}


def _is_detector(value: Any) -> bool:
    return isinstance(value, dict) and "backbone" in value


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Return settings with each ``type`` renamed; a registry before it (``mmdet.``) stays."""
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {
        key: _renamed(item, names) if isinstance(item, dict | list) else item
        for key, item in value.items()
    }
    if isinstance(kind := value.get("type"), str):
        registry, dot, name = kind.rpartition(".")
        renamed["type"] = f"{registry}{dot}{names.get(name, name)}"
    return renamed
