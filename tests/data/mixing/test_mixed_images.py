"""Mosaic and MixUp as functions of (seed, epoch, sample), with boxes computed by hand."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

import kd.runtime  # noqa: F401
from kd.common import nested
from kd.common.errors import UserError
from kd.config import pipelines
from kd.config.compose import split_config
from kd.config.library import Library
from kd.config.parts import Augmentation
from kd.config.recipes import mixing
from kd.data.entry import Dataset
from kd.data.loader import fast_loader
from kd.data.mixing import images as images_module
from kd.data.sampling import EpochSampler, build_dataset
from tests.data.conftest import HEIGHT, WIDTH
from tests.support.paths import CONFIGS

SIDE = 64
FAMILIES: tuple[Augmentation, ...] = ("rtmdet", "rtmdet-s", "rtmdet-tiny", "yolox", "yolox-tiny")
SWITCH = 2
"""First epoch of the last stage in these tests."""


@pytest.fixture(autouse=True)
def scope(quiet_mmdet: None) -> None:
    torch.set_num_threads(1)
    init_default_scope("mmdet")


def settings(dataset: Dataset, family: Augmentation, seed: int = 0) -> dict[str, Any]:
    schedule = Library(CONFIGS).schedule("rtmdet", "tests")
    schedule = schedule.model_copy(update={"epochs": 3, "unmixed_epochs": 3 - SWITCH})
    reading = pipelines.training(family, (SIDE, SIDE), [])
    keeps_empty = mixing.MIXING[family].empty_images
    split = split_config(dataset, "train", ["cat", "dog"], reading, keeps_empty)
    return mixing.mixed(split, family, SIDE, schedule, seed)


def samples(dataset: Any, epochs: int = 3) -> list[Any]:
    return [dataset[index] for index in range(epochs * len(dataset))]


def is_same(one: Any, other: Any) -> bool:
    ours, theirs = one["data_samples"], other["data_samples"]
    return (
        torch.equal(one["inputs"], other["inputs"])
        and torch.equal(ours.gt_instances.bboxes.tensor, theirs.gt_instances.bboxes.tensor)
        and torch.equal(ours.gt_instances.labels, theirs.gt_instances.labels)
        and ours.metainfo == theirs.metainfo
    )


def change_annotations(dataset: Dataset, change: Any) -> None:
    path = Path(dataset.root) / "annotations" / "train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# --- A function of seed, epoch and sample ----------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_depends_on_seed_epoch_and_sample_only(coco: Dataset, family: Any) -> None:
    first = samples(build_dataset(settings(coco, family)))
    again = build_dataset(settings(coco, family))
    for index in (8, 2, 5, 0, 2, 7):  # within both stages, in another order
        random.seed(index)
        np.random.seed(index)
        torch.manual_seed(index)
        assert is_same(again[index], first[index])
    assert not is_same(first[0], first[3])
    other = samples(build_dataset(settings(coco, family, seed=1)))
    assert not all(map(is_same, first, other))


def loaded(dataset: Dataset, family: Augmentation, workers: int, skip: int = 0) -> list[Any]:
    """Return the batches of all epochs from a loader whose processes live through them."""
    loader = {
        "batch_size": 1,
        "sampler": {"type": "EpochSampler"},
        "dataset": settings(dataset, family),
    }
    from mmengine.runner import Runner

    built = Runner.build_dataloader(fast_loader(loader, workers))
    batches = []
    for epoch in range(3):
        built.sampler.set_epoch(epoch, skip if not epoch else 0)
        batches += [{"inputs": b["inputs"][0], "data_samples": b["data_samples"][0]} for b in built]
    return batches


@pytest.mark.parametrize("family", ["rtmdet-tiny", "yolox"])
def test_workers_and_resuming_change_no_sample(coco: Dataset, family: Any) -> None:
    """The workers are started once, before the stages switch."""
    alone = loaded(coco, family, workers=0)
    assert all(map(is_same, loaded(coco, family, workers=2), alone))
    resumed = loaded(coco, family, workers=0, skip=2)
    assert len(resumed) == len(alone) - 2
    assert all(map(is_same, resumed, alone[2:]))


def test_two_processes_load_the_samples_of_one(coco: Dataset) -> None:
    data = build_dataset(settings(coco, "rtmdet-tiny"))
    alone = EpochSampler(data)
    shares = []
    for rank in range(2):
        sampler = EpochSampler(data)
        sampler.rank, sampler.world = rank, 2
        process = build_dataset(settings(coco, "rtmdet-tiny"))
        shares.append([process[index] for index in sampler])
    together = [sample for pair in zip(*shares, strict=True) for sample in pair]
    assert all(map(is_same, together, [data[index] for index in alone]))


def test_the_last_stage_mixes_nothing(coco: Dataset) -> None:
    for index in range(3):  # images differ, so boxes of one image have labels 0 and 1
        change_annotations(coco, lambda content: content["annotations"])
        sample = build_dataset(settings(coco, "yolox-tiny"))[3 * SWITCH + index]
        assert sample["data_samples"].gt_instances.labels.tolist() == [0, 1]
    mixed = samples(build_dataset(settings(coco, "yolox")), epochs=SWITCH)
    assert max(len(sample["data_samples"].gt_instances) for sample in mixed) > 2


# --- Images and boxes ------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_square_and_boxes_lie_in_them(coco: Dataset, family: Any) -> None:
    side = 96 if family == "yolox-tiny" else SIDE  # 64 * 640 / 416 = 98.5
    data = settings(coco, family)
    assert nested.image_size(data["pipeline"]) == (side, side)
    for sample in samples(build_dataset(data)):
        boxes = sample["data_samples"].gt_instances.bboxes.tensor
        assert sample["inputs"].shape == (3, side, side)
        assert sample["data_samples"].img_shape == (side, side)
        assert ((boxes >= 0) & (boxes <= side)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_a_mosaic_by_hand(coco: Dataset) -> None:
    """Four images of 40 x 30 pixels around the point (40, 40) of a canvas of 80 x 80."""
    data = build_dataset(
        {**settings(coco, "rtmdet"), "pipeline": [mixing._mosaic(WIDTH)], "last_pipeline": None}
    )
    (mosaic,) = data.steps
    mosaic.center_ratio_range = (1.0, 1.0)
    mosaic.get_indexes = lambda dataset: [1, 2, 0]
    results = data[0]
    pixels = [data.dataset[index]["img"] for index in (0, 1, 2, 0)]
    expected = np.full((80, 80, 3), 114, np.uint8)
    corners = ((0, 10), (40, 10), (0, 40), (40, 40))
    for image, (x, y) in zip(pixels, corners, strict=True):
        expected[y : y + HEIGHT, x : x + WIDTH] = image
    assert np.array_equal(results["img"], expected)
    boxes = [(x + a, y + b) for x, y in corners for a, b in ((1, 2), (20, 5.5))]
    assert results["gt_bboxes"].tensor.tolist() == [[x, y, x + 10, y + 5] for x, y in boxes]
    assert results["gt_bboxes_labels"].tolist() == [0, 1] * 4
    assert "mix_results" not in results


def test_mix_up_by_hand(coco: Dataset) -> None:
    """Two images of 40 x 30 pixels, the other one flipped."""
    step = {
        "type": "MixUp",
        "img_scale": [WIDTH, HEIGHT],
        "ratio_range": [1.0, 1.0],
        "flip_ratio": 0.0,
    }
    data = build_dataset({**settings(coco, "rtmdet"), "pipeline": [step], "last_pipeline": None})
    data._draw = lambda: 2
    results = data[0]
    image, other = (data.dataset[index]["img"].astype(np.float32) for index in (0, 2))
    assert np.array_equal(results["img"], (0.5 * image + 0.5 * other[:, ::-1]).astype(np.uint8))
    assert results["gt_bboxes"].tensor.tolist() == [
        [1, 2, 11, 7],
        [20, 5.5, 30, 10.5],
        [29, 2, 39, 7],
        [10, 5.5, 20, 10.5],
    ]


def test_the_other_image_of_rtmdet_is_a_mosaic(coco: Dataset, monkeypatch: Any) -> None:
    data = build_dataset(settings(coco, "rtmdet"))
    others = []
    transform = images_module.MixUpOfMosaics.transform

    def record(step: Any, results: dict[str, Any]) -> Any:
        others.extend(results["mix_results"])
        return transform(step, results)

    monkeypatch.setattr(images_module.MixUpOfMosaics, "transform", record)
    samples(data, epochs=2)
    assert {other["img"].shape for other in others} == {(SIDE, SIDE, 3)}
    assert all("mix_results" not in other for other in others)
    assert max(len(other["gt_bboxes"]) for other in others) > 2


def test_mix_up_of_rtmdet_tiny_mixes_half_of_the_samples(coco: Dataset) -> None:
    data = build_dataset(settings(coco, "rtmdet-tiny"))
    step = next(step for step in data.steps if isinstance(step, images_module.MixUpOfMosaics))
    np.random.seed(0)
    data._augmented = lambda sample, steps: {"gt_bboxes": [sample]}
    counts = sum(len(data._others(step, [])) for _ in range(400))
    assert 160 < counts < 240  # four standard deviations of 10


# --- Rare data -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_one_image_is_mixed_with_itself(coco: Dataset, family: Any) -> None:
    change_annotations(coco, lambda content: content.update(images=content["images"][:1]))
    data = build_dataset(settings(coco, family))
    assert len(data) == 1
    assert len({sample["data_samples"].img_id for sample in samples(data)}) == 1


def test_yolox_trains_on_images_without_boxes_and_rtmdet_does_not(coco: Dataset) -> None:
    change_annotations(coco, lambda content: content.update(annotations=content["annotations"][:2]))
    assert len(build_dataset(settings(coco, "rtmdet"))) == 1
    data = build_dataset(settings(coco, "yolox"))
    assert len(data) == 3
    counts = {len(sample["data_samples"].gt_instances) for sample in samples(data)}
    assert 0 in counts


@pytest.mark.parametrize("family", ["yolox", "yolox-tiny"])
def test_no_boxes_at_all_are_no_error(coco: Dataset, family: Any) -> None:
    change_annotations(coco, lambda content: content.update(annotations=[]))
    for sample in samples(build_dataset(settings(coco, family))):
        assert len(sample["data_samples"].gt_instances) == 0


def test_crops_without_any_box_are_an_error_in_the_end(coco: Dataset, monkeypatch: Any) -> None:
    monkeypatch.setattr(images_module, "MOST_DRAWS", 4)
    data = build_dataset(settings(coco, "rtmdet"))
    monkeypatch.setattr(data, "_augmented", lambda sample, steps: None)
    with pytest.raises(UserError, match=r"no box of 4 training images .*kd check"):
        data[0]


def test_a_crop_without_a_box_is_replaced_by_another_sample(
    coco: Dataset, monkeypatch: Any
) -> None:
    data = build_dataset(settings(coco, "rtmdet-tiny"))
    augmented, tried = data._augmented, []

    def losing(sample: int, steps: Any) -> Any:
        tried.append(sample)
        return augmented(sample, steps) if len(tried) > 3 else None

    monkeypatch.setattr(data, "_augmented", losing)
    assert data[1]["data_samples"].img_id
    assert tried[0] == 1
    assert set(tried) <= {0, 1, 2}
