"""Schedules in one form: epochs, batch, rates, optimizer, averaging of weights."""

from typing import Any

from mmengine.runner.checkpoint import get_external_models

Settings = dict[str, Any]
Pipeline = list[Settings]
MODELS = "open-mmlab://"
UNREAD = ("NumClassCheckHook", "CheckInvalidLossHook")
"""Hooks of mmdet that check a training and change nothing."""
IN_FORM = ("EMAHook", "YOLOXModeSwitchHook", "PipelineSwitchHook")
"""Hooks of mmdet that other settings of the form describe."""


def address(checkpoint: str) -> str:
    """Return the address of initial weights, which mmengine lists for ``open-mmlab://`` names."""
    if not checkpoint.startswith(MODELS):
        return checkpoint
    return str(get_external_models()[checkpoint.removeprefix(MODELS)])


def of_composed(config: Settings) -> Settings:
    """Return the schedule of a composed configuration."""
    averaging = _hook(config, "AverageWeights")
    unmixed = config["train_dataloader"]["dataset"].get("last_from")
    return {
        **_common(config, config["train_dataloader"]["batch_size"], 1),
        "precision": config["optim_wrapper"].get("precision", "float32"),
        "averaging": averaging and averaging["momentum"],
        "unmixed_from": unmixed,
        "hooks": [],
    }


def of_mmdet(config: Settings, batch_size: int, repeats: int) -> Settings:
    """Return the schedule of one of mmdet's configurations.

    ``batch_size``: images of a step, of all GPUs. ``repeats``: passes through the data in an epoch.
    """
    averaging = _hook(config, "EMAHook")
    hooks = [hook["type"] for hook in config.get("custom_hooks") or []]
    mixed_precision = config["optim_wrapper"]["type"] == "AmpOptimWrapper"
    return {
        **_common(config, batch_size, repeats),
        "precision": "float16" if mixed_precision else "float32",
        "averaging": averaging and averaging.get("momentum", 0.0002),
        "unmixed_from": _switch(config),
        "hooks": [name for name in hooks if name not in (*UNREAD, *IN_FORM)],
    }


def ending(config: Settings, loading: Pipeline, mixing: Pipeline | None) -> Pipeline | None:
    """Return the transforms of mmdet's last epochs, if its hooks change them."""
    if switch := _hook(config, "PipelineSwitchHook"):
        return list(switch["switch_pipeline"])
    if mixing and (switch := _hook(config, "YOLOXModeSwitchHook")):
        skipped = switch.get("skip_type_keys", ["Mosaic", "RandomAffine", "MixUp"])
        return loading + [step for step in mixing if step["type"] not in skipped]
    return None


def _switch(config: Settings) -> int | None:
    """Return the number of epochs after which mmdet mixes no images."""
    if switch := _hook(config, "PipelineSwitchHook"):
        return int(switch["switch_epoch"])
    if switch := _hook(config, "YOLOXModeSwitchHook"):
        # The hook switches one epoch before the last ones that it names.
        return int(config["train_cfg"]["max_epochs"] - switch.get("num_last_epochs", 15) - 1)
    return None


def _hook(config: Settings, kind: str) -> Settings | None:
    hooks: list[Settings] = config.get("custom_hooks") or []
    return next((hook for hook in hooks if hook["type"] == kind), None)


def _common(config: Settings, batch_size: int, repeats: int) -> Settings:
    updates = config["optim_wrapper"]
    epochs = config["train_cfg"]["max_epochs"] * repeats
    optimizer = updates["optimizer"]
    clip = updates.get("clip_grad")
    return {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "clip_grad": {"norm_type": 2, **clip} if clip else None,
        "paramwise_cfg": updates.get("paramwise_cfg") or {},
        **_rates(config["param_scheduler"], optimizer["lr"], repeats, epochs),
    }


def _rates(schedulers: list[Settings], rate: float, repeats: int, epochs: int) -> Settings:
    """Return the warm-up and the decay of the learning rate, in epochs of one pass."""
    parts: dict[str, Settings | None] = {"warm_up": None, "decay": None}
    for scheduler in schedulers:
        kind = scheduler["type"].removeprefix("mmdet.")
        by_epoch = scheduler.get("by_epoch", True)
        if kind == "ConstantLR" and scheduler.get("factor") == 1:
            continue  # the rate stays
        if not by_epoch or kind == "QuadraticWarmupLR":
            factors = {key: value for key, value in scheduler.items() if "factor" in key}
            unit = "epochs" if by_epoch else "steps"
            parts["warm_up"] = {"kind": kind, **factors, unit: scheduler["end"]}
        else:
            parts["decay"] = {"kind": kind, **_decay(scheduler, rate, repeats, epochs)}
    return parts


def _decay(scheduler: Settings, rate: float, repeats: int, epochs: int) -> Settings:
    if "milestones" in scheduler:
        milestones = [epoch * repeats for epoch in scheduler["milestones"]]
        return {"milestones": milestones, "gamma": scheduler.get("gamma", 0.1)}
    end = scheduler["eta_min"] / rate if "eta_min" in scheduler else scheduler["eta_min_ratio"]
    begin, stop = scheduler.get("begin", 0), scheduler.get("end", epochs)
    return {"begin": begin, "end": stop, "T_max": scheduler["T_max"], "eta_min_ratio": end}
