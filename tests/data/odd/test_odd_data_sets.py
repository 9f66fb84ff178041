"""Data sets that the check reports as usable train and evaluate with the reported counts.

`make test-nightly` tries more data sets than `make test`.
"""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import event, given

from kd.config.compose import compose
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.run import Run
from kd.data.check import SplitCounts, check
from kd.data.entry import Dataset
from kd.data.readers import image_path, read_split
from kd.evaluation.evaluate import metrics_of
from kd.evaluation.stored import StoredDetections
from tests.data.odd import data_sets
from tests.support.paths import CONFIGS
from tests.support.tiny_detectors import tiny_settings

SCALE = Scale(title="tiny", detectors={"retinanet": tiny_settings("retinanet")})


class OneDataset(Library):
    """Library in which every name is the same data set."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(CONFIGS)
        self.only = dataset

    def dataset(self, name: str, where: str) -> Dataset:
        return self.only


@pytest.fixture(scope="module", autouse=True)
def registered(quiet_mmdet: None) -> None:
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")


def composed(dataset: Dataset) -> dict[str, Any]:
    run = Run("tiny", "odd", "smoke", "retinanet", "r18-w0.125", 0)
    return compose(run, {}, SCALE, OneDataset(dataset), "tests")


@given(odd=data_sets.datasets())
def test_a_usable_data_set_trains_and_evaluates(odd: data_sets.OddDataset) -> None:
    with TemporaryDirectory() as folder:
        dataset = data_sets.write(odd, Path(folder))
        report = check("odd", dataset)
        assert report.describe() and json.dumps(report.to_json())
        event(f"{odd.form}: {'usable' if report.usable else 'refused'}")
        if report.usable:
            config = composed(dataset)
            assert_trains(odd, config, report.splits["train"])
            assert_evaluates(dataset, config, report.splits["test"])
        else:
            assert odd.broken, report.describe()
            assert all(problem.file and problem.reason for problem in report.errors)


def assert_trains(odd: data_sets.OddDataset, config: dict[str, Any], counts: SplitCounts) -> None:
    """Assert that the composed loader yields the images and boxes that the check counts."""
    from kd.data.loader import fast_loader
    from kd.data.sampling import build_dataset

    dataset = build_dataset(fast_loader(config["train_dataloader"], 0)["dataset"])
    samples = [dataset[index] for index in range(len(dataset))]
    assert len(samples) == counts.loaded
    names = config["test_dataloader"]["dataset"]
    while "datasets" in names:
        names = names["datasets"][0]
    classes = names["metainfo"]["classes"]
    labels: Counter[str] = Counter()
    for sample in samples:
        objects = sample["data_samples"].gt_instances
        sides = objects.bboxes.tensor[:, 2:] - objects.bboxes.tensor[:, :2]
        assert (sides > 0).all() and objects.bboxes.tensor.isfinite().all()
        labels.update(classes[label] for label in objects.labels.tolist())
    assert labels.total() == counts.trainable
    assert labels == expected_labels(odd, classes)
    losses = loss_of(json.dumps(config["model"]), samples)
    assert all(value.isfinite().all() for value in losses)


def expected_labels(odd: data_sets.OddDataset, classes: list[str]) -> Counter[str]:
    """Return the number of trainable boxes of each class, as the formats define them."""
    counts: Counter[str] = Counter()
    for image in odd.train.images:
        is_stated = not odd.train.options.get("no size")
        width, height = data_sets.stated_size(image) if is_stated else data_sets.loaded_size(image)
        for name, (x, y, w, h), marks in image.boxes:
            visible = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
            keys = ["iscrowd", "ignore"] if odd.form == "coco" else ["difficult"]
            is_excluded = any(marks.get(key) for key in keys)
            if name in classes and min(w, h, *visible) >= 1 and not is_excluded:
                counts[name] += marks.get("area", 1) > 0
    return +counts


@cache
def detector(model: str) -> Any:
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    return MODELS.build(ConfigDict(json.loads(model)))


def loss_of(model: str, samples: list[Any]) -> list[Any]:
    """Return the losses of a tiny detector on all samples, as one batch."""
    import torch
    from mmengine.dataset import pseudo_collate

    network = detector(model)
    with torch.no_grad():
        data = network.data_preprocessor(pseudo_collate(samples), training=True)
        losses = network.loss(data["inputs"], data["data_samples"])
    lists = (loss if type(loss) is list else [loss] for loss in losses.values())
    return [part for parts in lists for part in parts]


def assert_evaluates(dataset: Dataset, config: dict[str, Any], counts: SplitCounts) -> None:
    """Assert that perfect detections of the boxes that the check counts have an AP of 1."""
    from kd.data.sampling import build_dataset

    tested = build_dataset(config["test_dataloader"]["dataset"])
    truth = read_split(dataset, "test").coco
    by_path = {
        str(image_path(dataset, "test", image).resolve()): image["id"] for image in truth["images"]
    }
    names = {}
    for index in range(len(tested)):
        sample = tested[index]["data_samples"]
        names[by_path[str(Path(sample.img_path).resolve())]] = sample.img_id
    assert len(tested) == counts.images == len(names)
    labels = {category["id"]: label for label, category in enumerate(truth["categories"])}
    records = [
        {
            "image": names[box["image_id"]],
            "label": labels[box["category_id"]],
            "bbox": box["bbox"],
            "score": 1.0,
        }
        for box in truth["annotations"]
    ]
    detections = StoredDetections.parse(records).positioned(truth)
    metrics = metrics_of(detections, truth).model_dump()
    assert (metrics["images"], metrics["boxes"]) == (counts.images, counts.boxes)
    assert metrics["AP"] == (pytest.approx(1) if counts.counted_coco else None)
    twins = Counter(
        (box["image_id"], box["category_id"], *box["bbox"]) for box in truth["annotations"]
    )
    if not counts.counted_voc:
        assert metrics["VOC12"] is None
    elif max(twins.values()) == 1:  # VOC gives two detections of one box to the first of two twins
        assert metrics["VOC12"] == pytest.approx(1)
