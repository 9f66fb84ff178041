"""Schedule, images and initial weights of a training in mmdet's model zoo."""

import re
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner.checkpoint import get_external_models

from kd.config.library import Library
from kd.config.parts import Backbone, Schedule
from kd.config.schedules import KEYS

GPUS = 8
"""GPUs of a training whose file's name states none."""
MACHINES = re.compile(r"_(?P<gpus>\d+)xb(?P<images>\d+)-")
"""GPUs and images of each in the name of a configuration."""
UNCOMPARED = ("base", "stop_epoch", "checkpoint_steps")
"""Keys of schedules that published trainings do not have."""
ALIAS = "open-mmlab://"
"""Beginning of a name that mmengine has for an address."""
WHERE = "the model zoo"
Settings = dict[str, Any]


def schedule_of(config: Config) -> tuple[Settings, list[str]]:
    """Return the keys of a schedule that a training has, and what no schedule can have."""
    wrapper, optimizer = config.optim_wrapper, config.optim_wrapper.optimizer
    passes = _passes(config)
    settings: Settings = {
        "epochs": config.train_cfg.max_epochs * passes,
        "milestones": [],
        "warmup_iters": 0,
        "batch_size": _batch_size(config),
        "lr": optimizer.lr,
        "optimizer": optimizer.type,
        "weight_decay": optimizer.weight_decay,
        "init": "imagenet" if config.model.backbone.get("init_cfg") else "scratch",
        "precision": "float16" if wrapper.type == "AmpOptimWrapper" else "float32",
    }
    if optimizer.type == "SGD":
        settings |= {"momentum": optimizer.momentum, "nesterov": optimizer.get("nesterov", False)}
    if clip := wrapper.get("clip_grad"):
        settings["clip_grad"] = clip.max_norm
    rest = _parameter_groups(wrapper.get("paramwise_cfg") or {}, settings)
    for step in config.get("param_scheduler") or []:
        rest += _rate(step, settings, passes, optimizer.lr)
    if "SyncBN" in str(config.model.backbone.get("norm_cfg")):
        settings["norm"] = "SyncBN"
    _stages(config, settings)
    return settings, rest


def name_of(settings: Settings, library: Library) -> str:
    """Return the name of the schedule with these settings, of a file or with few changes."""
    schedule = Schedule.parse(settings, WHERE)
    names = library.names("schedules")
    changes = {name: _changes(library.schedule(name, WHERE), schedule) for name in names}
    base = min(names, key=lambda name: (len(changes[name]), len(name)))
    return library.changed_schedule(base, changes[base], WHERE)


def images(config: Config, side: int | None) -> str:
    """Return a clause on the sizes of training images; empty for those of the detector here.

    ``side``: that of its square images. ``tests/config/zoo`` compares all other transforms.
    """
    for step in _pipeline(config):
        match step["type"]:
            case "RandomChoice":
                return "images resized at random and cropped"
            case "InstaBoost":
                return "images with moved objects (InstaBoost)"
            case "RandomResize" if "ratio_range" not in step:
                return _sizes(step["scale"])
            case "RandomChoiceResize":
                return _sizes(step["scales"])
            case "Resize" if side not in (None, step["scale"][0]):
                return f"images of {step['scale'][0]} pixels"
    return ""


def _sizes(sizes: list[tuple[int, int]]) -> str:
    sides = [min(size) for size in sizes]
    return f"images of {min(sides)} to {max(sides)} pixels"


def initial(config: Config, backbone: Backbone) -> str:
    """Return the initial weights of a training if they are not those of the backbone's file."""
    init = config.model.backbone.get("init_cfg")
    if init is None:
        return ""
    name = init.checkpoint.removeprefix(ALIAS)
    source = get_external_models().get(name, init.checkpoint)
    return "" if source == backbone.imagenet else Path(source).name


def _changes(base: Schedule, schedule: Schedule) -> Settings:
    keys = [key for key in KEYS if key not in UNCOMPARED]
    return {key: getattr(schedule, key) for key in keys
            if getattr(schedule, key) != getattr(base, key)}  # fmt: skip


def _dataset(config: Config) -> Any:
    return config.train_dataloader.dataset


def _passes(config: Config) -> int:
    dataset = _dataset(config)
    return dataset.times if dataset.type == "RepeatDataset" else 1


def _batch_size(config: Config) -> int:
    machines = MACHINES.search(Path(config.filename).name)
    if machines:
        return int(machines["gpus"]) * int(machines["images"])
    return GPUS * config.train_dataloader.batch_size


def _pipeline(config: Config) -> list[Settings]:
    dataset = _dataset(config)
    steps: list[Settings] = []
    while dataset is not None:
        steps += dataset.get("pipeline") or []
        dataset = dataset.get("dataset")
    return steps


def _parameter_groups(groups: Settings, settings: Settings) -> list[str]:
    """Set the key of weight decay; return other rules on groups of parameters."""
    rules = {key: value for key, value in groups.items() if key != "bypass_duplicate"}
    if rules == {"norm_decay_mult": 0, "bias_decay_mult": 0}:
        settings["decay_norm_and_bias"] = False
        return []
    if rules.keys() == {"bias_lr_mult", "bias_decay_mult"} and not rules["bias_decay_mult"]:
        settings["bias_lr"] = rules["bias_lr_mult"]
        return []
    return [f"{key.replace('_mult', '').replace('_', ' ')} times {value:g}"
            for key, value in rules.items() if isinstance(value, int | float)]  # fmt: skip


def _rate(step: Any, settings: Settings, passes: int, rate: float) -> list[str]:
    """Set the keys of a part of the learning rate's course; return it if there are none."""
    match step.type.removeprefix("mmdet."):
        case "LinearLR" if not step.by_epoch:
            settings |= {"warmup_iters": step.end, "warmup_start": step.start_factor}
        case "MultiStepLR":
            settings["milestones"] = [epoch * passes for epoch in step.milestones]
        case "CosineAnnealingLR":
            settings |= {"cosine_from": step.begin, "cosine_to": round(step.eta_min / rate, 6)}
        case "QuadraticWarmupLR":
            settings["warmup_epochs"] = step.end
        case "ConstantLR" if step.by_epoch:
            settings["constant_epochs"] = step.end - step.begin
        case "ConstantLR":
            constant = {"warmup_start": step.factor, "warmup_constant": True}
            settings |= {"warmup_iters": step.end, **constant}
        case other:
            return [other]
    return []


def _stages(config: Config, settings: Settings) -> None:
    """Set the keys of averaged weights and of the last epochs without mixed images."""
    for hook in config.get("custom_hooks") or []:
        if hook.type == "EMAHook":
            settings["ema"] = hook.momentum
        if hook.type == "PipelineSwitchHook":
            settings["unmixed_epochs"] = settings["epochs"] - hook.switch_epoch
        if hook.type == "YOLOXModeSwitchHook":  # it acts one epoch before its number says
            settings["unmixed_epochs"] = hook.num_last_epochs + 1
