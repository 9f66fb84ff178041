"""Composition: the parts of a run -> one complete mmengine configuration."""

from pathlib import Path
from typing import Any

from kd.common.errors import UserError, suggest
from kd.config import pipelines
from kd.config.canonical import composed_detector, composed_form, detector
from kd.config.library import Library
from kd.config.parts import Checkpoint, Detector, Scale, Schedule
from kd.config.run import Run
from kd.config.terms import method_of
from kd.data.entry import CocoSplit, Dataset
from kd.methods.ops.pyramid import Pyramid

WEIGHTS = "weights.pth"
PREPROCESSOR: dict[str, Any] = {
    "type": "DetDataPreprocessor",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
    "pad_size_divisor": 32,
}


def compose(
    run: Run, terms: dict[str, Any], scale: Scale, library: Library, where: str
) -> dict[str, Any]:
    """Return the configuration of a run as plain data, loadable by mmengine.

    ``terms`` are the checked settings of each method term (empty for a run without a method).
    """
    dataset = library.dataset(run.dataset, where)
    schedule = library.schedule(run.schedule, where)
    classes = classes_of(run.dataset, dataset)
    model = detector_model(
        run.detector, run.student, len(classes), schedule.init, scale, library, where
    )
    if schedule.norm == "SyncBN":
        model["backbone"] = _synchronized(model["backbone"], run, where)
    family = library.detector(run.detector, where).augmentation
    size = _input_size(run.detector, dataset, scale, library, where)
    train = pipelines.training(family, size, model["data_preprocessor"]["mean"])
    test = pipelines.testing(family, size)
    if terms:
        terms = fitted(terms, model, size, where)
        distiller = {"type": "Distiller", "student": model, "seed": run.seed}
        model = {**distiller, **_teachers(run), "methods": terms}
    config = {
        "default_scope": "mmdet",
        "custom_imports": {"imports": ["kd.runtime"], "allow_failed_imports": False},
        "model": model,
        "train_dataloader": _training_loader(
            split_config(dataset, "train", classes, train), schedule.batch_size, run.seed
        ),
        "test_dataloader": _loader(split_config(dataset, "test", classes, test), 1, shuffle=False),
        "test_cfg": {"type": "TestLoop"},
        "test_evaluator": [],
        **training(schedule),
        "randomness": {"seed": run.seed},
    }
    return composed_form(config)


def fitted(
    terms: dict[str, Any], model: dict[str, Any], size: tuple[int, int], where: str
) -> dict[str, Any]:
    """Return the settings of terms, those resolved that depend on levels and image size."""
    pyramid, resolved = Pyramid.of(model, size), {}
    for name, settings in terms.items():
        method = method_of(settings)
        if pyramid is None and method.assigns_levels and isinstance(settings["level_sides"], str):
            raise UserError(
                f"{where}: term '{name}': key 'level_sides' must be a list of sides in pixels, "
                "because the detector's head states no strides"
            )
        chosen = method.fitted(pyramid) if pyramid else method
        resolved[name] = {**settings, **chosen.model_dump(mode="json")}
    return resolved


def imported(
    run: Run, checkpoint: Checkpoint, scale: Scale, library: Library, where: str
) -> dict[str, Any]:
    """Return the configuration of a run whose weights are published ones instead of trained."""
    config = compose(run, {}, scale, library, where)
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        del config[key]
    return {**config, "published_checkpoint": checkpoint.model_dump()}


def detector_model(
    detector: str,
    backbone: str,
    classes: int,
    init: str,
    scale: Scale,
    library: Library,
    where: str,
) -> dict[str, Any]:
    """Return the model dict of a detector on a backbone, with our classes and its observer."""
    part = library.detector(detector, where)
    body, channels = _backbone(backbone, init, library, where)
    if part.maps is not None:
        _check_maps(part.maps, detector, backbone, len(channels))
        body["out_indices"] = sorted(body["out_indices"][index] for index in part.maps)
        channels = [channels[index] for index in part.maps]
    model = merge(part.model, scale.detectors.get(detector, {}))
    preprocessor = PREPROCESSOR | model.get("data_preprocessor", {})
    if "init_cfg" in body:
        own_images = {key: preprocessor[key] for key in ("mean", "std")}.items()
        body["init_cfg"] |= {key: v for key, v in own_images if v != PREPROCESSOR[key]}
    own: dict[str, Any] = {
        "data_preprocessor": preprocessor,
        "backbone": body,
        "neck": {"in_channels": channels},
    }
    if part.neck_appends:
        own["neck"]["out_channels"] = channels + model["neck"]["out_channels"]
    return composed_detector(merge(merge(model, own), _heads(part, own["neck"], classes)))


def _check_maps(maps: list[int], detector: str, backbone: str, count: int) -> None:
    for index in maps:
        if index >= count:
            raise UserError(
                f"configs/detectors/{detector}.yaml: key 'maps': no map {index} of backbone "
                f"'{backbone}'; valid: 0 to {count - 1}"
            )


def _heads(part: Detector, neck: dict[str, Any], classes: int) -> dict[str, Any]:
    """Return what the heads that predict classes are told; an RPN's needs nothing."""
    told: dict[str, Any] = {"num_classes": classes}
    if "roi_head" in part.model:
        return {"roi_head": {"bbox_head": told}}
    if part.neck_appends:
        told["in_channels"] = neck["out_channels"]
    return {"bbox_head": told}


def _input_size(
    detector: str, dataset: Dataset, scale: Scale, library: Library, where: str
) -> tuple[int, int]:
    """Return the width and height, in pixels, that images are resized to or fitted into."""
    own = library.detector(detector, where).input_size
    side = scale.input_sizes.get(detector, own)
    return (side, side) if side else dataset.image_size


def merge(base: dict[str, Any], changes: dict[str, Any], known_in: str = "") -> dict[str, Any]:
    """Return ``base`` with ``changes`` merged in, dict by dict.

    A dict merged into a list of dicts is merged into each. With ``known_in`` (where the changes
    stand) every changed key must exist in ``base``.
    """
    merged = dict(base)
    for key, value in changes.items():
        if known_in and key not in base:
            raise UserError(f"{known_in}: no setting '{key}' to change; {suggest(key, base)}")
        inside = known_in and f"{known_in}.{key}"
        old: Any = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = merge(old, value, inside)
        elif isinstance(value, dict) and _is_list_of_dicts(old):
            merged[key] = [merge(each, value, inside) for each in old]
        else:
            merged[key] = value
    return merged


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _backbone(
    name: str, init: str, library: Library, where: str
) -> tuple[dict[str, Any], list[int]]:
    part, width = library.backbone(name, where)
    scaled = {key: type(value)(value * width) for key, value in part.scaled.items()}
    channels = [_divisible(channel * width, part.divisor) for channel in part.channels]
    model = {**part.model, **scaled}
    if init == "imagenet":
        if part.imagenet is None:
            raise UserError(
                f"{where}: backbone '{name}' has no ImageNet weights; use 'init: scratch'"
            )
        model |= part.imagenet_frozen if width == 1 else {}
        model["init_cfg"] = {"type": "ImageNet", "checkpoint": part.imagenet}
    return model, channels


def _synchronized(backbone: dict[str, Any], run: Run, where: str) -> dict[str, Any]:
    """Return a backbone that trains its normalisation, as mmdet's configurations with SyncBN do."""
    if "norm_cfg" not in backbone:
        raise UserError(
            f"{where}: schedule '{run.schedule}' has 'norm: SyncBN', and backbone "
            f"'{run.student}' has no normalisation; use 'norm: BN'"
        )
    return {**backbone, "norm_cfg": {**backbone["norm_cfg"], "type": "SyncBN"}, "norm_eval": False}


def _divisible(value: float, divisor: int) -> int:
    """Round as MobileNets do: to a multiple of ``divisor``, losing at most a tenth."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _teachers(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if run.teacher:
        found["teacher"] = _frozen(run.teacher.config)
        found["checkpoint"] = str(run.teacher.directory / WEIGHTS)
    if run.classifier:
        found["classifier"] = run.classifier.config["model"]
        found["classifier_checkpoint"] = str(run.classifier.directory / WEIGHTS)
    return found


def _frozen(config: dict[str, Any]) -> dict[str, Any]:
    """Return a teacher's model without its initial weights: a checkpoint replaces them."""
    model = dict(detector(config))
    model["backbone"] = {
        key: value for key, value in model["backbone"].items() if key != "init_cfg"
    }
    return model


def classes_of(name: str, dataset: Dataset) -> list[str]:
    """Return the class names in label order, read from the data where the entry lists none."""
    if dataset.classes is not None:
        return dataset.classes
    from kd.data.readers import class_names

    try:
        return class_names(dataset)
    except UserError as error:
        raise UserError(f"configs/datasets/{name}.yaml: {error}") from None


def training(schedule: Schedule) -> dict[str, Any]:
    """Return loop, optimizer, schedulers and hooks of a training, whatever its model."""
    optimizer = {
        "type": schedule.optimizer,
        "lr": schedule.lr,
        **({"momentum": schedule.momentum} if schedule.optimizer == "SGD" else {}),
        "weight_decay": schedule.weight_decay,
    }
    clip = {"clip_grad": {"max_norm": schedule.clip_grad}} if schedule.clip_grad else {}
    updates: dict[str, Any] = {"type": "OptimWrapper", "optimizer": optimizer, **clip}
    if schedule.precision != "float32":
        updates |= {"type": "PreciseOptimWrapper", "precision": schedule.precision}
    warmup = {
        "type": "LinearLR",
        "start_factor": 0.001,
        "by_epoch": False,
        "begin": 0,
        "end": schedule.warmup_iters,
    }
    steps = {
        "type": "MultiStepLR",
        "by_epoch": True,
        "begin": 0,
        "end": schedule.epochs,
        "milestones": schedule.milestones,
        "gamma": 0.1,
        "convert_to_iter_based": True,
    }
    return {
        "train_cfg": {"type": "ResumableEpochLoop", "max_epochs": schedule.epochs},
        "optim_wrapper": updates,
        "param_scheduler": [warmup, steps] if schedule.warmup_iters else [steps],
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
        ],
    }


def _training_loader(split: dict[str, Any], batch_size: int, seed: int) -> dict[str, Any]:
    seeded = {"type": "SeededDataset", "seed": seed, "dataset": split}
    return _loader(seeded, batch_size, shuffle=True)


def _loader(dataset: dict[str, Any], batch_size: int, *, shuffle: bool) -> dict[str, Any]:
    return {
        "batch_size": batch_size,
        "num_workers": 0,
        "sampler": {"type": "EpochSampler", "shuffle": shuffle},
        "dataset": dataset,
    }


def split_config(
    dataset: Dataset, split: str, classes: list[str], pipeline: pipelines.Pipeline
) -> dict[str, Any]:
    """Return mmdet's data set of a split, whose images go through ``pipeline``."""
    parts = [
        _reader(dataset, source, split, classes, pipeline) for source in _sources(dataset, split)
    ]
    return parts[0] if len(parts) == 1 else {"type": "ConcatDataset", "datasets": parts}


def _sources(dataset: Dataset, split: str) -> list[Any]:
    source = getattr(dataset, split)
    return [source] if isinstance(source, CocoSplit) else source


def _reader(
    dataset: Dataset,
    source: CocoSplit | str,
    split: str,
    classes: list[str],
    pipeline: pipelines.Pipeline,
) -> dict[str, Any]:
    training = split == "train"
    common = {
        "metainfo": {"classes": classes},
        "pipeline": pipeline,
        "test_mode": not training,
    }
    if isinstance(source, CocoSplit):
        return {
            "type": "CocoImages",
            "data_root": dataset.root,
            "ann_file": source.annotations,
            "data_prefix": {"img": source.images},
            "filter_cfg": {"filter_empty_gt": training, "min_size": 1},
            **common,
        }
    folder, name = Path(source).parent, Path(source).name
    # mmdet keeps VOC boxes without area unless told, and refuses to be told in test mode.
    smallest = {"bbox_min_size": 1} if training else {}
    return {
        "type": "VocImages",
        "data_root": str(Path(dataset.root) / folder),
        "ann_file": f"ImageSets/Main/{name}.txt",
        "data_prefix": {"sub_data_root": ""},
        "filter_cfg": {"filter_empty_gt": training, "min_size": 1, **smallest},
        **common,
    }
