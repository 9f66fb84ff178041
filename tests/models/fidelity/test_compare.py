"""Comparison of a composed configuration with one of mmdet's."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.compose import compose
from kd.config.library import Library
from kd.config.run import Run
from kd.models.fidelity.compare import ABSENT, MmdetComparison, compare
from kd.models.fidelity.forms import form_of_mmdet
from kd.models.fidelity.mmdet_files import read_mmdet
from tests.support.paths import CONFIGS

LIBRARY = Library(CONFIGS)
RETINANET = "retinanet_r50_fpn_1x_coco"
DATA = ["data.training.0.filter.min_size"]
"""Settings of RetinaNet that differ from mmdet's by choice."""


def composed(detector: str, backbone: str, schedule: str, dataset: str) -> dict[str, Any]:
    run = Run("paper", dataset, schedule, detector, backbone, seed=0)
    config = compose(run, {}, LIBRARY.scale("paper", "test"), LIBRARY, "test")
    copy: dict[str, Any] = json.loads(json.dumps(config))
    return copy


def paths(comparison: MmdetComparison) -> list[str]:
    return sorted(difference.path for difference in comparison.differences)


@pytest.mark.parametrize(
    ("detector", "schedule", "name"),
    [
        ("retinanet", "1x-lr0.01", RETINANET),
        ("atss", "1x-lr0.01", "atss_r50_fpn_1x_coco"),
        ("gfl", "1x-lr0.01", "gfl_r50_fpn_1x_coco"),
        ("faster_rcnn", "1x", "faster-rcnn_r50_fpn_1x_coco"),
        ("cascade_rcnn", "1x", "cascade-rcnn_r50_fpn_1x_coco"),
    ],
)
def test_only_the_choice_of_images_differs(detector: str, schedule: str, name: str) -> None:
    comparison = compare(composed(detector, "r50", schedule, "coco2017"), name)
    assert paths(comparison) == DATA
    assert comparison.equal > 80


def _set(*keys: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        place: Any = config
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "path", "values"),
    [
        (_set("model", "test_cfg", "score_thr", value=0.1), "model.test_cfg.score_thr",
         (0.1, 0.05)),
        (_set("model", "bbox_head", "loss_cls", "gamma", value=1.5),
         "model.bbox_head.loss_cls.gamma", (1.5, 2.0)),
        (_set("model", "bbox_head", "reg_decoded_bbox", value=True),
         "model.bbox_head.reg_decoded_bbox", (True, False)),
        (_set("model", "train_cfg", "assigner", "type", value="ATSSAssigner"),
         "model.train_cfg.assigner.type", ("ATSSAssigner", "MaxIoUAssigner")),
        (_set("optim_wrapper", "optimizer", "lr", value=0.02), "schedule.optimizer.lr",
         (0.02, 0.01)),
        (_set("train_dataloader", "batch_size", value=8), "schedule.batch_size", (8, 16)),
        (_set("param_scheduler", 1, "milestones", value=[9, 11]), "schedule.decay.milestones",
         ([9, 11], [8, 11])),
        (_set("test_dataloader", "dataset", "pipeline", 1, "width", value=1000),
         "testing.Resize.scale", ([1000, 800], [1333, 800])),
        (_set("model", "test_cfg", "voting", value=1), "model.test_cfg.voting", (1, ABSENT)),
    ],
)  # fmt: skip
def test_a_changed_setting_differs(
    change: Callable[[dict[str, Any]], None], path: str, values: tuple[Any, Any]
) -> None:
    config = composed("retinanet", "r50", "1x-lr0.01", "coco2017")
    change(config)
    differences = {
        one.path: (one.ours, one.mmdets) for one in compare(config, RETINANET).differences
    }
    assert differences.pop(path) == values
    assert sorted(differences) == DATA


@pytest.mark.parametrize(
    "change",
    [
        _set("model", "bbox_head", "loss_cls", "reduction", value="mean"),
        _set("model", "train_cfg", "assigner", "gt_max_assign_all", value=True),
        _set("model", "neck", "norm_cfg", value=None),
        _set("optim_wrapper", "optimizer", "nesterov", value=False),
    ],
)
def test_a_default_that_one_side_states_is_equal(change: Callable[[dict[str, Any]], None]) -> None:
    config = composed("retinanet", "r50", "1x-lr0.01", "coco2017")
    before = compare(config, RETINANET)
    change(config)
    after = compare(config, RETINANET)
    assert paths(after) == paths(before)
    assert after.equal == before.equal + 1


def test_the_order_of_transforms_is_compared() -> None:
    config = composed("retinanet", "r50", "1x-lr0.01", "coco2017")
    pipeline = config["train_dataloader"]["dataset"]["dataset"]["pipeline"]
    pipeline[2], pipeline[3] = pipeline[3], pipeline[2]
    assert paths(compare(config, RETINANET)) == [*DATA, "training.order"]


def test_mmdets_repetitions_are_epochs() -> None:
    """Mmdet lists VOC 3 times and trains 4 epochs, with a step after the third."""
    schedule = form_of_mmdet(read_mmdet("retinanet_r50_fpn_1x_voc0712"), "name")["schedule"]
    assert (schedule["epochs"], schedule["decay"]["milestones"]) == (12, [9])


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        (RETINANET, 16),
        ("rtmdet_l_8xb32-300e_coco", 256),  # although it inherits base_batch_size 16
        ("fcos_r50-caffe_fpn_gn-head_4xb4-1x_coco", 16),
        ("ssd300_coco", 64),
    ],
)
def test_the_batch_of_all_gpus(name: str, batch: int) -> None:
    assert form_of_mmdet(read_mmdet(name), name)["schedule"]["batch_size"] == batch


def test_the_stages_of_yolox_are_compared() -> None:
    comparison = compare(
        composed("yolox", "csp-darknet-s", "yolox", "coco2017"), "yolox_s_8xb8-300e_coco"
    )
    assert not comparison.part("model", "training", "ending", "testing")
    assert "schedule.unmixed_from" not in paths(comparison)


def test_a_misspelled_name_has_a_suggestion() -> None:
    config = composed("retinanet", "r50", "1x", "coco2017")
    with pytest.raises(UserError, match=r"no configuration 'retinanet_r50_fpn_1x'; .*_1x_coco"):
        compare(config, "retinanet_r50_fpn_1x")
