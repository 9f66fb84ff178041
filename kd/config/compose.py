"""Composition of the parts of a run into one complete mmengine configuration."""

from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.common.merging import merge
from kd.config import pipelines
from kd.config.canonical import composed_detector, detector, observer_apart
from kd.config.library import Library
from kd.config.parts import Augmentation, Detector, Scale, Schedule, ZooWeights
from kd.config.recipes import mixing
from kd.config.recipes.optimization import training
from kd.config.run import Run
from kd.config.study_parts import Checkpoint
from kd.config.terms import method_of
from kd.config.zoo.initial import DETECTOR, initial_weights
from kd.data.entry import CocoSplit, Dataset, SplitName
from kd.methods.ops.pyramid import Pyramid

WEIGHTS = "weights.pth"
KEEPING_ASPECT = ("general", "yolo")
"""Augmentations whose images keep their aspect ratio; those of others are squares."""


def compose(
    run: Run,
    terms: dict[str, Any],
    scale: Scale,
    library: Library,
    where: str,
    init: str | None = None,
) -> dict[str, Any]:
    """Return the configuration of a run as plain data that mmengine loads.

    ``terms``: checked settings by method term, empty for a run without a method. ``init``: initial
    weights of the backbone, in place of those of the schedule.
    """
    dataset = library.dataset(run.dataset, where)
    schedule = library.schedule(run.schedule, where)
    start, initial = initial_weights(run, init or schedule.init, terms, scale, library, where)
    classes = classes_of(run.dataset, dataset)
    model = detector_model(run.detector, run.student, len(classes), start, scale, library, where)
    if schedule.norm == "SyncBN":
        model["backbone"] = _synchronized(model["backbone"], run, where)
    part = library.detector_on(run.detector, run.student, where)
    family = part.augmentation
    size = _input_size(run.detector, part, dataset, scale)
    train = pipelines.training(family, size, _mean_color(model["data_preprocessor"]))
    test = pipelines.testing(family, size)
    updates = training(schedule)
    updates["custom_hooks"] += mixing.hooks(family, _head(model), size[0], schedule)
    if terms:
        terms = fitted(terms, model, size, where)
        distiller = {"type": "Distiller", "student": model, "seed": run.seed}
        model = {**distiller, **_teachers(run), "methods": terms}
    config = {
        "default_scope": "mmdet",
        "custom_imports": {"imports": ["kd.runtime"], "allow_failed_imports": False},
        "model": model,
        "train_dataloader": _loader(
            _training_data(dataset, classes, train, family, schedule, run.seed, size[0]),
            schedule.batch_size,
            {"shuffle": True, **_grouping(part, dataset, schedule)},
        ),
        **_test_loader("test", dataset, classes, test),
        **(_test_loader("val", dataset, classes, test) if dataset.val is not None else {}),
        "test_cfg": {"type": "TestLoop"},
        "test_evaluator": [],
        **updates,
        **initial,
        "randomness": {"seed": run.seed},
    }
    return observer_apart(config)


def fitted(
    terms: dict[str, Any], model: dict[str, Any], size: tuple[int, int], where: str
) -> dict[str, Any]:
    """Return the settings of terms with numbers for those that depend on levels or image size."""
    pyramid, resolved = Pyramid.of(model, size), {}
    for name, settings in terms.items():
        method = method_of(settings)
        if pyramid is None and method.assigns_levels and isinstance(settings["level_sides"], str):
            raise UserError(
                f"{where}: term '{name}': key 'level_sides' must be a list of sides in pixels, "
                "because the detector's head has no strides"
            )
        fitted_method = method.fitted(pyramid) if pyramid else method
        resolved[name] = {**settings, **fitted_method.model_dump(mode="json")}
    return resolved


def imported(
    run: Run, checkpoint: Checkpoint, scale: Scale, library: Library, where: str
) -> dict[str, Any]:
    """Return the configuration of a run whose weights are imported instead of trained."""
    backbone, _ = library.backbone(run.student, where)
    # Published weights replace those of ImageNet, which some backbones lack here.
    init = None if backbone.imagenet else "scratch"
    if init is None and isinstance(library.schedule(run.schedule, where).init, ZooWeights):
        init = "imagenet"
    config = compose(run, {}, scale, library, where, init)
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        del config[key]
    return {**config, "published_checkpoint": checkpoint.model_dump(exclude_defaults=True)}


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
    part = library.detector_on(detector, backbone, where)
    backbone_model, channels = _backbone(backbone, init, library, where)
    if part.maps is not None:
        _check_maps(part.maps, detector, backbone, len(channels))
        indices = backbone_model["out_indices"]
        backbone_model["out_indices"] = sorted(indices[index] for index in part.maps)
        channels = [channels[index] for index in part.maps]
    model = merge(part.model, scale.detectors.get(detector, {}))
    trained_with = library.backbone(backbone, where)[0].data_preprocessor
    preprocessor = pipelines.PREPROCESSOR | trained_with | model.get("data_preprocessor", {})
    if "init_cfg" in backbone_model:
        backbone_model["init_cfg"] |= _fitting(preprocessor, trained_with)
    neck: dict[str, Any] = {"in_channels": channels}
    if part.neck_appends:
        neck["out_channels"] = channels + model["neck"]["out_channels"]
    if backbone_model["type"] == "SwinTransformer" and part.maps is None:
        backbone_model["unread_maps"] = model["neck"].get("start_level", 0)
    changes = {"data_preprocessor": preprocessor, "backbone": backbone_model, "neck": neck}
    declared = {"observer": part.observer} if part.observer else {}
    composed = merge(merge(model, changes), _heads(part, neck, classes))
    _check_assignment(composed, detector, where)
    return composed_detector(composed | declared)


def _fitting(preprocessor: dict[str, Any], trained_with: dict[str, Any]) -> dict[str, Any]:
    """Return the settings by which ImageNet weights are fitted to the normalization of images."""
    usual = pipelines.PREPROCESSOR
    settings = {
        key: preprocessor[key] for key in ("mean", "std") if preprocessor[key] != usual[key]
    }
    if not preprocessor["bgr_to_rgb"]:
        settings["bgr"] = True
    return {**settings, "trained_with": trained_with} if trained_with else settings


def _mean_color(preprocessor: dict[str, Any]) -> list[float]:
    """Return the mean of images, RGB, 0 to 255."""
    mean: list[float] = preprocessor["mean"]
    return mean if preprocessor["bgr_to_rgb"] else mean[::-1]


def _check_maps(maps: list[int], detector: str, backbone: str, count: int) -> None:
    for index in maps:
        if index >= count:
            raise UserError(
                f"configs/detectors/{detector}.yaml: key 'maps': no map {index} of backbone "
                f"'{backbone}'; valid: 0 to {count - 1}"
            )


def _check_assignment(model: dict[str, Any], detector: str, where: str) -> None:
    """Raise UserError for a VFNet that assigns labels as FCOS, which its observer cannot read."""
    if not model.get("bbox_head", {}).get("use_atss", True):
        raise UserError(
            f"{where}: detector '{detector}': key 'model.bbox_head.use_atss' must be true, because "
            "methods read the labels that ATSS assigns; delete the key"
        )


def _heads(part: Detector, neck: dict[str, Any], classes: int) -> dict[str, Any]:
    """Return the settings of the heads that predict classes, which the RPN's head does not."""
    head: dict[str, Any] = {"num_classes": classes}
    if "roi_head" in part.model:
        return {"roi_head": {"bbox_head": head}}
    if part.neck_appends:
        head["in_channels"] = neck["out_channels"]
    return {"bbox_head": head}


def _input_size(name: str, part: Detector, dataset: Dataset, scale: Scale) -> tuple[int, int]:
    """Return the width and height, in pixels, that images are resized to or fitted into."""
    side = scale.input_sizes.get(name, part.input_size)
    return (side, side) if side else dataset.image_size


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
        if width != 1 and not part.imagenet_sliced:
            raise UserError(
                f"{where}: backbone '{name}' cannot use the ImageNet weights of the full width; "
                "use 'init: scratch', or the full width"
            )
        model["init_cfg"] = {"type": "ImageNet", "checkpoint": part.imagenet}
    if init in ("imagenet", DETECTOR):
        model |= part.imagenet_frozen if width == 1 else {}
    return model, channels


def _synchronized(backbone: dict[str, Any], run: Run, where: str) -> dict[str, Any]:
    """Return a backbone that trains its normalization, as mmdet's configurations with SyncBN do."""
    if "norm_cfg" not in backbone:
        raise UserError(
            f"{where}: schedule '{run.schedule}' has 'norm: SyncBN', and backbone "
            f"'{run.student}' has no batch normalization; use 'norm: BN'"
        )
    trained = {"requires_grad": True} if "requires_grad" in backbone["norm_cfg"] else {}
    norm = {**backbone["norm_cfg"], "type": "SyncBN", **trained}
    return {**backbone, "norm_cfg": norm, "norm_eval": False}


def _divisible(value: float, divisor: int) -> int:
    """Return the nearest multiple of ``divisor`` that is at least nine tenths of ``value``.

    This is the rounding of MobileNets.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _teachers(run: Run) -> dict[str, Any]:
    """Return the models and checkpoints of a distiller's teachers."""
    teachers: dict[str, Any] = {}
    if run.teacher:
        teachers["teacher"] = _frozen(run.teacher.config)
        teachers["checkpoint"] = str(run.teacher.directory / WEIGHTS)
    if run.classifier:
        teachers["classifier"] = run.classifier.config["model"]
        teachers["classifier_checkpoint"] = str(run.classifier.directory / WEIGHTS)
    return teachers


def _frozen(config: dict[str, Any]) -> dict[str, Any]:
    """Return a teacher's model without ImageNet weights, which its checkpoint replaces."""
    model = dict(detector(config))
    model["backbone"] = {
        key: value for key, value in model["backbone"].items() if key != "init_cfg"
    }
    return model


def classes_of(name: str, dataset: Dataset) -> list[str]:
    """Return the class names in label order, read from the data if the entry lists none."""
    if dataset.classes is not None:
        return dataset.classes
    from kd.data.readers import class_names

    try:
        return class_names(dataset)
    except UserError as error:
        raise UserError(f"configs/datasets/{name}.yaml: {error}") from None


def _training_data(
    dataset: Dataset,
    classes: list[str],
    pipeline: pipelines.Pipeline,
    family: Augmentation,
    schedule: Schedule,
    seed: int,
    side: int,
) -> dict[str, Any]:
    """Return the training images of a family; ``side``: their width in pixels."""
    numbers = mixing.MIXING.get(family)
    keeps_empty = numbers is not None and numbers.empty_images
    split = split_config(dataset, "train", classes, pipeline, keeps_empty)
    if numbers:
        return mixing.mixed(split, family, side, schedule, seed)
    return {"type": "SeededDataset", "seed": seed, "dataset": split}


def _head(model: dict[str, Any]) -> str:
    """Return the type of a dense detector's head; empty for a two-stage detector."""
    return model.get("bbox_head", {}).get("type", "")


def _grouping(part: Detector, dataset: Dataset, schedule: Schedule) -> dict[str, int]:
    """Return the key of the sampler that makes batches of wide or of tall images only."""
    groups = dataset.group_by_aspect and part.augmentation in KEEPING_ASPECT
    return {"aspect_batch": schedule.batch_size} if groups else {}


def _loader(dataset: dict[str, Any], batch_size: int, sampling: dict[str, Any]) -> dict[str, Any]:
    return {
        "batch_size": batch_size,
        "num_workers": 0,
        "sampler": {"type": "EpochSampler", **sampling},
        "dataset": dataset,
    }


def _test_loader(
    split: SplitName, dataset: Dataset, classes: list[str], pipeline: pipelines.Pipeline
) -> dict[str, Any]:
    """Return the loader of ``test`` or ``val`` under mmengine's key for it."""
    loader = _loader(split_config(dataset, split, classes, pipeline), 1, {"shuffle": False})
    return {f"{split}_dataloader": loader}


def split_config(
    dataset: Dataset,
    split: SplitName,
    classes: list[str],
    pipeline: pipelines.Pipeline,
    keeps_empty: bool = False,
) -> dict[str, Any]:
    """Return mmdet's data set of a split, whose images go through ``pipeline``.

    ``keeps_empty``: train on images without boxes, too.
    """
    parts = [
        _reader(dataset, source, split, classes, pipeline, keeps_empty)
        for source in _sources(dataset, split)
    ]
    return parts[0] if len(parts) == 1 else {"type": "ConcatDataset", "datasets": parts}


def _sources(dataset: Dataset, split: SplitName) -> list[Any]:
    source = getattr(dataset, split)
    return [source] if isinstance(source, CocoSplit) else source


def _reader(
    dataset: Dataset,
    source: CocoSplit | str,
    split: SplitName,
    classes: list[str],
    pipeline: pipelines.Pipeline,
    keeps_empty: bool,
) -> dict[str, Any]:
    is_training = split == "train"
    selection = {"filter_empty_gt": is_training and not keeps_empty, "min_size": 1}
    common = {
        "metainfo": {"classes": classes},
        "pipeline": pipeline,
        "test_mode": not is_training,
    }
    if isinstance(source, CocoSplit):
        return {
            "type": "CocoImages",
            "data_root": dataset.root,
            "ann_file": source.annotations,
            "data_prefix": {"img": source.images},
            "filter_cfg": selection,
            **common,
        }
    folder, name = Path(source).parent, Path(source).name
    # Without this key mmdet loads VOC boxes without area; in test mode it refuses the key.
    smallest = {"bbox_min_size": 1} if is_training else {}
    return {
        "type": "VocImages",
        "data_root": str(Path(dataset.root) / folder),
        "ann_file": f"ImageSets/Main/{name}.txt",
        "data_prefix": {"sub_data_root": ""},
        "filter_cfg": {**selection, **smallest},
        **common,
    }
