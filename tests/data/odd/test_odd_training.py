"""Odd but usable data sets are trained on, predicted and evaluated."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.config.library import Library
from kd.data.check import Report, check
from kd.evaluation.metrics import Metrics
from tests.data.odd import data_sets, voc
from tests.data.odd.data_sets import OddDataset, OddImage, OddSplit
from tests.support.tiny import STUDENT, make_project, write_run

FORMS = ["jpg-cmyk", "png-16", "png-palette", "gif"]
BOXES: list[tuple[list[float], dict[str, Any]]] = [
    ([4, 4, 20, 20], {}),
    ([39.75, 5, 30, 10], {}),  # a quarter of a pixel lies in the image
    ([45, 5, 10, 10], {}),
    ([3, 3, 0, 8], {}),
    ([10, 10, 0.5, 8], {}),
    ([12, 2, 20, 20], {"iscrowd": 1}),
    ([12, 2, 21, 20], {"ignore": 1}),
    ([-4, -4, 60, 60], {}),
]
COCO_OPTIONS = {
    "ids": "negative",
    "reversed": True,
    "root": "doubled",
    "extra": {"name": 8},
    "images first": False,
    "units": "",
    "ascii": False,
}
VOC_OPTIONS = {
    "two sets": True,
    "suffix": "upper",
    "encoding": "utf-16",
    "no size": True,
    "line end": "\r\n",
    "float": True,
}


def images(whole: bool, start: int) -> list[OddImage]:
    odd_images = []
    for index, form in enumerate(FORMS):
        image = OddImage(f"ä{index}", form, (40, 30), start + index)
        image.orientation = 3 if form.startswith(("jpg", "png")) else 1
        for box, marks in BOXES if index in (0, 2) else []:
            if not whole or not marks:
                sides = [float(round(side)) for side in box] if whole else box
                image.boxes += [(name, sides, marks) for name in ("cat", "dog")]
        odd_images.append(image)
    if whole:
        odd_images[0].boxes.append(("cat", [5.0, 5.0, 9.0, 9.0], {"difficult": 1}))
    return odd_images


def described(form: str, classes: list[str] | None, metric: str) -> OddDataset:
    options = COCO_OPTIONS if form == "coco" else VOC_OPTIONS
    train, test = (OddSplit(images(form == "voc", start), options) for start in (0, 50))
    entry = {"classes": classes, "image_size": [64, 64], "metric": metric}
    return OddDataset(form, False, ["cat", "dog"], train, test, entry)


@pytest.fixture(params=["coco", "coco without classes", "voc", "voc without classes"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Report:
    """Work in a tiny project with an odd data set and return the report of its check."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    form, _, free = request.param.partition(" ")
    dataset = data_sets.write(
        described(form, None if free else ["dog", "cat"], form), Path("data/shapes-tiny")
    )
    entry = dataset.model_dump(mode="json", exclude_none=True)
    Path("configs/datasets/shapes-tiny.yaml").write_text(yaml.safe_dump(entry, allow_unicode=True))
    return check("odd", Library().dataset("shapes-tiny", "tests"))


def test_an_odd_data_set_trains_and_is_measured(project: Report, quiet_mmdet: None) -> None:
    from kd.evaluation.evaluate import measure
    from kd.evaluation.predict import predict
    from kd.training.train import train

    assert project.usable, project.describe()
    run = write_run(STUDENT)
    train(run)
    predict(run)
    measure(run, Library())
    metrics = Metrics.read(run / "metrics.json")
    counts = project.splits["test"]
    assert (metrics.images, metrics.boxes) == (counts.images, counts.boxes)
    assert metrics.AP is not None and metrics.VOC12 is not None
    assert (run / "log.jsonl").read_text().count("\n") == 2  # epochs of one batch


def test_an_empty_image_set_beside_another_is_accepted(tmp_path: Path, quiet_mmdet: None) -> None:
    from kd.data.sampling import build_dataset
    from tests.data.odd.test_odd_data_sets import composed

    odd = described("voc", ["cat", "dog"], "voc")
    dataset = data_sets.write(odd, tmp_path)
    assert dataset.train == voc.image_sets(odd.train, "train") == ["A/train", "B/train"]
    report = check("voc", dataset)
    assert report.splits["train"].loaded == 2
    assert "B/ImageSets/Main/train.txt: lists no image with a box" in "\n".join(
        map(str, report.notes)
    )
    assert len(build_dataset(composed(dataset)["train_dataloader"]["dataset"])) == 2
