"""One form for composed configurations and mmdet's: the input of ``kd.models.fidelity.compare``.

model       the detector with mmdet's class names
training    transforms of training images by name, in the first stage of a training
ending      those of the last epochs, if they mix no images any more
testing     transforms of test images
schedule    epochs, batch, rates, optimizer, averaging of weights
data        files and filters of training and test images
"""

import re
from typing import Any

from mmdet.registry import TASK_UTILS

from kd.config.canonical import canonical_detector
from kd.config.composed import ComposedConfig
from kd.models.fidelity import recipes, transforms
from kd.models.fidelity.mmdet_files import plain

Settings = dict[str, Any]
GPUS = 8
"""GPUs of mmdet's trainings, where their configuration states no batch of all GPUs."""


def form_of_composed(config: Settings) -> Settings:
    """Return the form of a composed configuration of a detector or a distilled run."""
    composed = ComposedConfig(plain(config))
    reader, *_ = composed.readers("train")
    dataset = composed.dataset("train")
    mixes = dataset["type"] == "MixedImages"
    loading = reader["pipeline"] if mixes else []
    stages = [dataset["pipeline"], dataset.get("last_pipeline")] if mixes else [reader["pipeline"]]
    training, ending = [loading + stage if stage else None for stage in [*stages, None][:2]]
    return {
        "model": _model_of_composed(composed),
        **transforms.stages(training, ending, composed.pipelines("test")[0]),
        "schedule": recipes.of_composed(composed.settings),
        "data": {
            "batch_sampler": _batch_sampler(composed),
            "training": [_composed_source(one) for one in composed.readers("train")],
            "testing": [_composed_source(one) for one in composed.readers("test")],
        },
    }


def _batch_sampler(composed: ComposedConfig) -> str | None:
    """Return mmdet's name for a sampler whose batches have images of one aspect."""
    groups = "aspect_batch" in composed.loader("train")["sampler"]
    return "AspectRatioBatchSampler" if groups else None


def form_of_mmdet(config: Settings, name: str) -> Settings:
    """Return the form of one of mmdet's configurations, whose file is ``name``."""
    loader, test = config["train_dataloader"], config["test_dataloader"]
    readers, repeats, mixing = _unwrapped(loader["dataset"])
    loading = readers[0].get("pipeline") or []
    training = loading + mixing if mixing else loading
    ending = recipes.ending(config, loading, mixing)
    test_readers, _, _ = _unwrapped(test["dataset"])
    sampler = loader.get("batch_sampler") or {}
    return {
        "model": _model(config["model"]),
        **transforms.stages(training, ending, test_readers[0]["pipeline"]),
        "schedule": recipes.of_mmdet(config, _batch_size(config, name), repeats),
        "data": {
            "batch_sampler": sampler.get("type"),
            "training": [_mmdet_source(one) for one in readers],
            "testing": [_mmdet_source(one) for one in test_readers],
        },
    }


# --- Models -------------------------------------------------------------------------------------


def _model_of_composed(composed: ComposedConfig) -> Settings:
    model = _model({k: v for k, v in composed.student.items() if k != "observer"})
    backbone = model["backbone"]
    backbone.pop("unread_maps", None)  # mmdet leaves these maps out
    if backbone["type"] == "Darknet" and backbone["base_channels"] == 32:
        del backbone["base_channels"]
    if backbone.get("fully_convolutional"):
        indices = {"out_indices": [3, 4], "out_feature_indices": backbone["out_indices"]}
        vgg = {"type": "SSDVGG", "depth": 16, "ceil_mode": True, "with_last_pool": False}
        model["backbone"] = {**vgg, **indices, "init_cfg": backbone.get("init_cfg")}
    for hook in composed.settings.get("custom_hooks", []):
        if hook["type"] == "ResizeBatches":
            sizes = {"random_size_range": [hook["smallest"], hook["largest"]]}
            augment = {"type": "BatchSyncRandomResize", **sizes, "size_divisor": 32}
            model["data_preprocessor"]["batch_augments"] = [augment]
    return model


def _model(model: Settings) -> Settings:
    """Return a detector's model with mmdet's names and the source of its initial weights."""
    model = canonical_detector(model)
    backbone = dict(model["backbone"])
    init = backbone.get("init_cfg")
    if init and "checkpoint" in init:
        backbone["init_cfg"] = {"checkpoint": recipes.address(init["checkpoint"])}
    head = model.get("bbox_head", {})
    if head.get("type") == "CompleteSSDHead":
        head["type"] = "SSDHead"
    if head.get("anchor_generator", {}).get("type") == "SSDAnchorGenerator":
        head["anchor_generator"] = _anchors(head["anchor_generator"])
    preprocessor = dict(model["data_preprocessor"])
    if preprocessor.get("mean") == [0, 0, 0] and preprocessor.get("std") == [1, 1, 1]:
        del preprocessor["mean"], preprocessor["std"]
    return {**model, "backbone": backbone, "data_preprocessor": preprocessor}


def _anchors(settings: Settings) -> Settings:
    """Return the settings of SSD's anchors with their sides, which mmdet derives from a range."""
    generator = TASK_UTILS.build({key: _tuple(value) for key, value in settings.items()})
    sides = [float(side) for side in generator.base_sizes]
    pairs = zip(sides, generator.scales, strict=True)
    larger = [round(side * float(scales[-1]) ** 2, 3) for side, scales in pairs]
    derived = ("min_sizes", "max_sizes", "basesize_ratio_range", "input_size")
    rest = {key: value for key, value in settings.items() if key not in derived}
    return {**rest, "kind": rest.pop("type"), "sides": sides, "larger_sides": larger}


def _tuple(value: Any) -> Any:
    """Return a pair of numbers as mmdet requires it."""
    return tuple(value) if isinstance(value, list) and len(value) == 2 else value


# --- Data ---------------------------------------------------------------------------------------


def _composed_source(reader: Settings) -> Settings:
    folder = reader["data_root"].partition("/VOCdevkit/")[2]
    prefix = f"{folder}/" if folder else ""
    return _source(reader, prefix)


def _mmdet_source(reader: Settings) -> Settings:
    return _source(reader, "")


def _source(reader: Settings, folder: str) -> Settings:
    """Return the annotation file of a data set relative to its root, and its filters."""
    selection = {"filter_empty_gt": False, "min_size": 0, **(reader.get("filter_cfg") or {})}
    if reader.get("test_mode"):
        selection = {}  # mmdet filters no test images
    return {"annotations": folder + reader["ann_file"], "filter": selection}


def _batch_size(config: Settings, name: str) -> int:
    """Return the images of a step of all GPUs; a name such as ``8xb32`` states GPUs and images."""
    if sizes := re.search(r"_(\d+)xb(\d+)-", name):
        return int(sizes[1]) * int(sizes[2])
    scaling = config.get("auto_scale_lr") or {}
    batch = scaling.get("base_batch_size") or GPUS * config["train_dataloader"]["batch_size"]
    return int(batch)


def _unwrapped(dataset: Settings) -> tuple[list[Settings], int, list[Settings] | None]:
    """Return mmdet's readers, how often they are repeated, and the transforms that mix images."""
    repeats, mixing = 1, None
    while "dataset" in dataset:
        repeats *= dataset.get("times", 1)
        if dataset["type"] == "MultiImageMixDataset":
            mixing = dataset["pipeline"]
        dataset = dataset["dataset"]
    return dataset.get("datasets", [dataset]), repeats, mixing
