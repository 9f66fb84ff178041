"""Recipes of RTMDet and YOLOX: the pipelines and schedules of mmdet's configurations."""

from pathlib import Path
from typing import Any

import mmdet
import pytest
from mmengine.config import Config

from kd.common.errors import UserError
from kd.config import pipelines
from kd.config.composed import ComposedConfig, mmdet_config
from kd.config.library import Library
from kd.config.parts import Detector, Schedule
from kd.config.recipes import mixing
from kd.config.recipes.optimization import training
from kd.config.schedules import changed
from tests.support.paths import CONFIGS

MMDETS = Path(mmdet.__file__).parent / ".mim" / "configs"
FILES = {
    "rtmdet": "rtmdet/rtmdet_l_8xb32-300e_coco.py",
    "rtmdet-s": "rtmdet/rtmdet_s_8xb32-300e_coco.py",
    "rtmdet-tiny": "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    "yolox": "yolox/yolox_s_8xb8-300e_coco.py",
    "yolox-tiny": "yolox/yolox_tiny_8xb8-300e_coco.py",
}
NAMES = {"CachedMosaic": "Mosaic", "CachedMixUp": "MixUpOfMosaics"}
CACHES = {"max_cached_images", "random_pop", "backend_args"}
SIDES = {"yolox-tiny": 416}


@pytest.fixture(scope="module")
def configs() -> dict[str, Any]:
    """Return mmdet's configurations by family."""
    return {family: Config.fromfile(MMDETS / file) for family, file in FILES.items()}


def schedule(name: str) -> Schedule:
    return Library(CONFIGS).schedule(name, "tests")


def plain(value: Any) -> Any:
    """Return lists for tuples and floats for numbers."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def of_mmdet(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mmdet's transforms after loading, with our names and without caches."""
    names = [{**step, "type": NAMES.get(step["type"], step["type"])} for step in steps]
    return [
        plain({key: value for key, value in step.items() if key not in CACHES})
        for step in names
        if not step["type"].startswith("Load")
    ]


def of_ours(steps: list[dict[str, Any]], likewise: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return our transforms with mmdet's names and the defaults that mmdet's steps leave out."""
    converted = []
    for step, other in zip(steps, likewise, strict=True):
        settings = plain(step)
        if step["type"] == "PadInto":
            values = {"pad_val": {"img": [float(step["value"])] * 3}}
            size = {"size": [float(step["width"]), float(step["height"])]}
            shape = {"pad_to_square": True} if "pad_to_square" in other else size
            settings = {"type": "Pad", **shape, **values}
        if step["type"] == "FitInto":
            scale = [float(step["width"]), float(step["height"])]
            settings = {"type": "Resize", "scale": scale, "keep_ratio": True}
        settings.pop("resize_type", None)
        if settings.get("prob") == 1 and step["type"] == "MixUpOfMosaics":
            del settings["prob"]
        if isinstance(other.get("pad_val"), list):
            settings["pad_val"] = [settings["pad_val"]] * 3
        converted.append(settings)
    return converted


@pytest.mark.parametrize("family", FILES)
def test_images_are_augmented_as_in_mmdet(configs: dict[str, Any], family: Any) -> None:
    config, side = configs[family], SIDES.get(family, 640)
    data = mixing.mixed({}, family, side, schedule("rtmdet"), seed=0)
    first = of_mmdet(config.train_pipeline)
    assert of_ours(data["pipeline"], first) == first
    if family.startswith("rtmdet"):
        last = of_mmdet(config.train_pipeline_stage2)
    else:
        last = [one for one in first if one["type"] not in ("Mosaic", "RandomAffine", "MixUp")]
    assert of_ours(data["last_pipeline"], last) == last
    assert data["last_from"] == 280


@pytest.mark.parametrize("family", FILES)
def test_images_are_tested_as_in_mmdet(configs: dict[str, Any], family: Any) -> None:
    side = SIDES.get(family, 640)
    steps = pipelines.testing(family, (side, side))
    expected = [one for one in of_mmdet(configs[family].test_pipeline) if one["type"] != "PackDet"]
    expected[-1]["meta_keys"] = list(expected[-1]["meta_keys"])
    assert of_ours(steps[1:], expected) == expected


@pytest.mark.parametrize("family", ["yolox", "yolox-tiny"])
def test_batches_are_resized_as_in_mmdet(configs: dict[str, Any], family: Any) -> None:
    (augment,) = configs[family].model.data_preprocessor.batch_augments
    resize, loss = mixing.hooks(family, "YOLOXHead", SIDES.get(family, 640), schedule("yolox"))
    assert (resize["smallest"], resize["largest"]) == tuple(augment["random_size_range"])
    assert loss == {"type": "BoxL1Loss", "from_epoch": 284}


def test_rtmdet_and_other_heads_have_no_hooks() -> None:
    assert mixing.hooks("rtmdet", "RTMDetSepBNHead", 640, schedule("rtmdet")) == []
    assert mixing.hooks("general", "RetinaHead", 640, schedule("1x")) == []


@pytest.mark.parametrize(("name", "family"), [("rtmdet", "rtmdet-s"), ("yolox", "yolox")])
def test_optimizers_are_those_of_mmdet(configs: dict[str, Any], name: str, family: str) -> None:
    config, ours = configs[family], training(schedule(name))
    theirs = config.optim_wrapper
    assert ours["optim_wrapper"]["optimizer"] == theirs.optimizer.to_dict()
    undecayed = {key: theirs.paramwise_cfg[key] for key in ours["optim_wrapper"]["paramwise_cfg"]}
    assert undecayed == ours["optim_wrapper"]["paramwise_cfg"]
    assert ours["train_cfg"]["max_epochs"] == config.max_epochs
    (average,) = (hook for hook in config.custom_hooks if hook["type"] == "EMAHook")
    assert ours["custom_hooks"][-1] == {"type": "AverageWeights", "momentum": average["momentum"]}
    assert average["ema_type"] == "ExpMomentumEMA"
    assert average["update_buffers"]


def rates(schedulers: list[dict[str, Any]], lr: float, epochs: int) -> list[float]:
    """Return the learning rate of each of 4 steps of every epoch."""
    import torch
    from mmengine.registry import PARAM_SCHEDULERS, init_default_scope

    import kd.runtime  # noqa: F401

    init_default_scope("mmdet")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    built = []
    for config in schedulers:
        settings = dict(config)
        if settings.pop("convert_to_iter_based", False):
            cls = PARAM_SCHEDULERS.get(settings.pop("type"))
            built.append(cls.build_iter_from_epoch(optimizer, **settings, epoch_length=4))
        elif not settings["by_epoch"]:
            built.append(PARAM_SCHEDULERS.build(settings, default_args={"optimizer": optimizer}))
    values = []
    for _ in range(4 * epochs):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for one in built:
            one.step()
    return values


@pytest.mark.parametrize(("name", "family"), [("rtmdet", "rtmdet-s"), ("yolox", "yolox")])
def test_learning_rates_are_those_of_mmdet(configs: dict[str, Any], name: str, family: str) -> None:
    config, part = configs[family], schedule(name)
    ours = rates(training(part)["param_scheduler"], part.lr, part.epochs)
    theirs = rates([dict(one) for one in config.param_scheduler], part.lr, part.epochs)
    # mmdet's cosine of YOLOX has another period, see the schedule's file.
    tolerance = {"abs": 0.016 * part.lr} if name == "yolox" else {"rel": 1e-9}
    assert ours == pytest.approx(theirs, **tolerance)
    assert ours[-1] == pytest.approx(0.05 * part.lr, rel=1e-3)
    if name == "yolox":
        assert ours[4 * 285 :] == pytest.approx([0.05 * part.lr] * 60, rel=1e-3)
        assert ours[9] == pytest.approx(part.lr * (10 / 20) ** 2)
        assert ours[4 * 145] == pytest.approx(
            part.lr * (0.05 + 0.95 / 2), rel=1e-3
        )  # half of the cosine


# --- Schedules -------------------------------------------------------------------------------


def test_stages_keep_their_share_of_other_epochs() -> None:
    short = changed(schedule("yolox"), {"epochs": 30}, "tests")
    assert (short.cosine_from, short.constant_epochs, short.unmixed_epochs) == (1, 1, 1)
    longer = changed(schedule("rtmdet"), {"epochs": 600}, "tests")
    assert (longer.cosine_from, longer.unmixed_epochs) == (300, 40)
    unswitched = changed(schedule("rtmdet"), {"epochs": 600, "unmixed_epochs": None}, "tests")
    assert unswitched.unmixed_epochs is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"milestones": [8]}, "'cosine_from' needs 'milestones: \\[\\]'"),
        ({"cosine_from": None, "constant_epochs": 3}, "'constant_epochs' needs 'cosine_from'"),
        ({"cosine_from": 300}, "300 epochs leave none for the cosine"),
        ({"constant_epochs": 150}, "300 epochs leave none for the cosine"),
        ({"warmup_epochs": 5}, "'warmup_epochs' needs 'warmup_iters: 0'"),
        ({"nesterov": True}, "'nesterov' needs 'optimizer: SGD'"),
        ({"unmixed_epochs": 301}, "unmixed_epochs 301 must lie within 300 epochs"),
        ({"unmixed_epochs": 0}, "key 'unmixed_epochs'"),
        ({"ema": 1}, "key 'ema'"),
        ({"bias_lr": 2}, "'bias_lr' needs 'decay_norm_and_bias: true'"),
        ({"bias_lr": 0}, "key 'bias_lr'"),
        ({"warmup_constant": True, "warmup_iters": 0}, "'warmup_constant' needs 'warmup_iters'"),
        ({"ema": 0}, "key 'ema'"),
        ({"ema": -0.1}, "key 'ema'"),
        ({"ema": float("nan")}, "key 'ema'"),
    ],
)
def test_stages_that_do_not_fit_are_refused(changes: dict[str, Any], problem: str) -> None:
    settings = schedule("rtmdet").model_dump()
    with pytest.raises(UserError, match=problem):
        Schedule.parse({**settings, **changes}, "schedule.yaml")


def test_the_schedule_of_fcos_has_mmdets_rates() -> None:
    settings = training(schedule("1x-fcos"))
    assert settings["optim_wrapper"] == {
        "type": "OptimWrapper",
        "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001},
        "clip_grad": {"max_norm": 35},
        "constructor": "TwoParameterGroups",
        "paramwise_cfg": {"bias_lr_mult": 2, "bias_decay_mult": 0},
    }
    assert settings["param_scheduler"][0] == {
        "type": "ConstantLR", "factor": pytest.approx(1 / 3), "by_epoch": False, "begin": 0,
        "end": 500,
    }  # fmt: skip


def test_keys_that_are_not_set_do_not_appear() -> None:
    names = str(training(schedule("1x")))
    for name in ("nesterov", "paramwise", "ConstantLR", "AverageWeights", "Cosine", "Quadratic"):
        assert name not in names


@pytest.mark.parametrize("family", FILES)
def test_a_family_that_pads_needs_a_size(family: str) -> None:
    with pytest.raises(UserError, match="'input_size' must be given"):
        Detector.parse({"title": "A", "augmentation": family, "model": {}}, "a.yaml")


def test_an_unknown_augmentation_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(UserError, match=r"a.yaml: key 'augmentation'.*'rtmdet-tiny'") as error:
        Detector.parse({"title": "A", "augmentation": "mosaic", "model": {}}, "a.yaml")
    assert "\n" not in str(error.value)


def test_shares_of_mixed_samples_are_probabilities() -> None:
    assert all(0 <= numbers.mix_up <= 1 for numbers in mixing.MIXING.values())


def test_the_configuration_for_mmdet_pads_as_the_run_does() -> None:
    readers = {"metainfo": {"classes": ["a"]}, "pipeline": pipelines.testing("yolox", (64, 64))}
    model = {"type": "X", "backbone": {"type": "ResNet"}}
    config = {
        "model": model,
        "observer": "dense",
        "custom_imports": {},
        "test_dataloader": {"dataset": readers},
    }
    assert ComposedConfig(config).class_names == ["a"]
    steps = mmdet_config(config)["test_dataloader"]["dataset"]["pipeline"]
    assert steps[1] == {"type": "Resize", "scale": (64, 64), "keep_ratio": True}
    assert steps[2] == {"type": "Pad", "size": (64, 64), "pad_val": {"img": (114, 114, 114)}}
