"""Loop, optimizer, learning rates and hooks of a schedule."""

from typing import Any

from kd.config.parts import Schedule

Settings = dict[str, Any]


def training(schedule: Schedule) -> Settings:
    """Return loop, optimizer, schedulers and hooks of a training of any model."""
    stop = {"stop_epoch": schedule.stop_epoch} if schedule.stop_epoch else {}
    return {
        "train_cfg": {"type": "ResumableEpochLoop", "max_epochs": schedule.epochs, **stop},
        "optim_wrapper": _updates(schedule),
        "param_scheduler": [*_warm_up(schedule), *_decay(schedule)],
        "default_hooks": {
            "logger": None,
            "checkpoint": None,
            "sampler_seed": None,
            "runtime_info": None,
        },
        "custom_hooks": [
            {"type": "SeedEachStep"},
            {"type": "FiniteLoss"},
            {"type": "StepLog"},
            {"type": "Checkpoints", "steps": schedule.checkpoint_steps, "minutes": 5},
            *([{"type": "AverageWeights", "momentum": schedule.ema}] if schedule.ema else []),
        ],
    }


def _updates(schedule: Schedule) -> Settings:
    """Return the optimizer and its wrapper."""
    optimizer = {
        "type": schedule.optimizer,
        "lr": schedule.learning_rate,
        **({"momentum": schedule.momentum} if schedule.optimizer == "SGD" else {}),
        **({"nesterov": True} if schedule.nesterov else {}),
        "weight_decay": schedule.weight_decay,
    }
    clip = {"clip_grad": {"max_norm": schedule.clip_grad}} if schedule.clip_grad else {}
    updates: Settings = {"type": "OptimWrapper", "optimizer": optimizer, **clip}
    if schedule.precision != "float32":
        updates |= {"type": "PreciseOptimWrapper", "precision": schedule.precision}
    special: Settings = {}
    if not schedule.decay_norm_and_bias:
        special = {"norm_decay_mult": 0, "bias_decay_mult": 0}
    elif schedule.bias_lr:
        special = {"bias_lr_mult": schedule.bias_lr, "bias_decay_mult": 0}
    if special:
        updates |= {"constructor": "TwoParameterGroups", "paramwise_cfg": special}
    return updates


def _warm_up(schedule: Schedule) -> list[Settings]:
    if schedule.warmup_epochs:
        by_epoch = {"by_epoch": True, "begin": 0, "end": schedule.warmup_epochs}
        return [{"type": "mmdet.QuadraticWarmupLR", **by_epoch, "convert_to_iter_based": True}]
    if not schedule.warmup_iters:
        return []
    rise = {"type": "LinearLR", "start_factor": schedule.warmup_start}
    if schedule.warmup_constant:
        rise = {"type": "ConstantLR", "factor": schedule.warmup_start}
    return [{**rise, "by_epoch": False, "begin": 0, "end": schedule.warmup_iters}]


def _decay(schedule: Schedule) -> list[Settings]:
    if schedule.cosine_from is None:
        steps = {
            "type": "MultiStepLR",
            "by_epoch": True,
            "begin": 0,
            "end": schedule.epochs,
            "milestones": schedule.milestones,
            "gamma": 0.1,
            "convert_to_iter_based": True,
        }
        return [steps]
    end = schedule.epochs - (schedule.constant_epochs or 0)
    cosine = {
        "type": "CosineAnnealingLR",
        "by_epoch": True,
        "begin": schedule.cosine_from,
        "end": end,
        "T_max": end - schedule.cosine_from,
        "eta_min_ratio": schedule.cosine_to,
        "convert_to_iter_based": True,
    }
    return [cosine]
