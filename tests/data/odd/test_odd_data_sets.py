"""Any data set that the check calls usable trains and evaluates, with the counts that it reports.

`make test-nightly` tries more data sets than `make test` does.
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
from kd.evaluation.evaluate import coco_results, figures
from tests.data.odd import data_sets
from tests.support.paths import CONFIGS
from tests.support.tiny_detectors import tiny_settings

SCALE = Scale(title="tiny", detectors={"retinanet": tiny_settings("retinanet")})


class OneDataset(Library):
    """The library, in which every data set is the same."""

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


@given(drawn=data_sets.datasets())
def test_what_the_check_calls_usable_trains_and_evaluates(drawn: data_sets.OddDataset) -> None:
    with TemporaryDirectory() as folder:
        dataset = data_sets.write(drawn, Path(folder))
        report = check("odd", dataset)
        assert report.describe() and json.dumps(report.to_json())
        event(f"{drawn.form}: {'usable' if report.usable else 'refused'}")
        if report.usable:
            config = composed(dataset)
            assert_trains(drawn, config, report.splits["train"])
            assert_evaluates(dataset, config, report.splits["test"])
        else:
            assert drawn.broken, report.describe()
            assert all(problem.file and problem.reason for problem in report.errors)


def assert_trains(drawn: data_sets.OddDataset, config: dict[str, Any], counts: SplitCounts) -> None:
    """The composed loader yields the images and boxes that the check counts, of their classes."""
    from kd.data.loader import fast_loader
    from kd.data.sampling import build

    dataset = build(fast_loader(config["train_dataloader"], 0)["dataset"])
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
    assert labels == expected_labels(drawn, classes)
    losses = loss_of(json.dumps(config["model"]), samples)
    assert all(value.isfinite().all() for value in losses)


def expected_labels(drawn: data_sets.OddDataset, classes: list[str]) -> Counter[str]:
    """Return how many boxes of each class can be learned from, by the definition of the formats."""
    counts: Counter[str] = Counter()
    for image in drawn.train.images:
        is_stated = not drawn.train.options.get("no size")
        width, height = data_sets.stated_size(image) if is_stated else data_sets.loaded_size(image)
        for name, (x, y, w, h), marks in image.boxes:
            visible = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
            keys = ["iscrowd", "ignore"] if drawn.form == "coco" else ["difficult"]
            marked = any(marks.get(key) for key in keys)
            if name in classes and min(w, h, *visible) >= 1 and not marked:
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
    return [part for each in losses.values() for part in (each if type(each) is list else [each])]


def assert_evaluates(dataset: Dataset, config: dict[str, Any], counts: SplitCounts) -> None:
    """Perfect detections of the boxes that the check counts have an AP of 1."""
    from kd.data.sampling import build

    tested = build(config["test_dataloader"]["dataset"])
    truth = read_split(dataset, "test").coco
    by_path = {
        str(image_path(dataset, "test", image).resolve()): image["id"] for image in truth["images"]
    }
    names = {}
    for index in range(len(tested)):
        sample = tested[index]["data_samples"]
        names[by_path[str(Path(sample.img_path).resolve())]] = sample.img_id
    assert len(tested) == counts.images == len(names)
    labels = {each["id"]: label for label, each in enumerate(truth["categories"])}
    records = [
        {
            "image": names[each["image_id"]],
            "label": labels[each["category_id"]],
            "bbox": each["bbox"],
            "score": 1.0,
        }
        for each in truth["annotations"]
    ]
    metrics = figures(coco_results(records, truth), truth).to_json()
    assert (metrics["images"], metrics["boxes"]) == (counts.images, counts.boxes)
    assert metrics["AP"] == (pytest.approx(1) if counts.counted else None)
    twins = Counter(
        (each["image_id"], each["category_id"], *each["bbox"]) for each in truth["annotations"]
    )
    if not counts.counted_voc:
        assert metrics["VOC12"] is None
    elif max(twins.values()) == 1:  # VOC gives two detections of one box to the first of two twins
        assert metrics["VOC12"] == pytest.approx(1)
