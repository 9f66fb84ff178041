"""The check reports boxes that training and evaluation skip, and refuses other units."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd.data.check import Report, check
from kd.data.entry import Dataset
from kd.data.readers import class_names, read_split
from kd.evaluation.evaluate import metrics_of
from kd.evaluation.stored import StoredDetections
from tests.data.conftest import HEIGHT, WIDTH, voc_page

Edit = Callable[[Callable[[dict[str, Any]], Any]], None]


def errors(report: Report) -> str:
    return "\n".join(map(str, report.errors))


def notes(report: Report) -> str:
    return "\n".join(map(str, report.notes))


def mark(count: int, **values: Any) -> Callable[[dict[str, Any]], Any]:
    """Return a change of the first annotations of a COCO file."""
    return lambda content: [box.update(values) for box in content["annotations"][:count]]


def without(dataset: Dataset, *keys: str) -> Dataset:
    return dataset.model_copy(update=dict.fromkeys(keys))


# --- Marks -----------------------------------------------------------------------------------


def test_boxes_to_ignore_are_counted_and_explained(coco: Dataset, edit: Edit) -> None:
    edit(mark(2, ignore=1))
    report = check("coco", coco)
    train = report.splits["train"]
    assert report.usable
    assert (train.boxes, train.ignored, train.trainable) == (6, 2, 4)
    assert (train.counted_coco, train.counted_voc) == (6, 4)
    assert "2 of 6 boxes have 'ignore': 1; training skips them, AP counts them" in notes(report)
    assert "training learns from 4 boxes in 3 images (2 ignored)" in report.describe()


def test_crowd_and_difficult_boxes_are_counted(coco: Dataset, voc: Dataset, edit: Edit) -> None:
    edit(mark(1, iscrowd=1))
    train = check("coco", coco).splits["train"]
    assert (train.crowd, train.trainable, train.counted_coco) == (1, 5, 5)
    report = check("voc", voc)
    test = report.splits["test"]
    assert (test.difficult, test.counted_coco, test.counted_voc) == (1, 2, 1)
    assert report.to_json()["splits"]["test"]["counted"] == 2
    assert "AP counts 2 boxes, VOC metrics 1 (1 difficult)" in report.describe()


@pytest.mark.parametrize(
    "marks", [{"iscrowd": 1}, {"ignore": 1}, {"bbox": [2, 2, 0.5, 8]}, {"bbox": [39.5, 2, 8, 8]}]
)
def test_a_training_split_with_nothing_to_learn_is_an_error(
    coco: Dataset, edit: Edit, marks: dict[str, Any]
) -> None:
    edit(mark(6, **marks))
    assert "training learns from none of the 6 boxes of split 'train'" in errors(
        check("coco", coco)
    )


def test_a_voc_split_of_difficult_boxes_is_an_error(voc: Dataset, tmp_path: Path) -> None:
    for path in tmp_path.rglob("*.xml"):
        path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    message = "training learns from none of the 6 boxes of split 'train' (6 difficult"
    assert message in errors(check("voc", voc))
    scored = voc.model_copy(update={"metric": "voc"})
    assert "'metric: voc', counts none of the 2 boxes of split 'test'" in errors(
        check("voc", scored)
    )


def test_a_mark_that_is_no_flag_is_an_error(coco: Dataset, edit: Edit) -> None:
    edit(mark(1, ignore="no"))
    assert "annotation 2: 'ignore' must be 0 or 1, not 'no'" in errors(check("coco", coco))


def test_boxes_that_are_left_out_are_counted(coco: Dataset, edit: Edit) -> None:
    edit(mark(1, area=0))
    left_out = check("coco", coco.model_copy(update={"classes": ["dog"]})).splits["train"].left_out
    assert left_out == 3  # all cats, including the one without area


# --- Names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [8, "one", None])
def test_names_of_coco_images_are_ignored(coco: Dataset, tmp_path: Path, name: Any) -> None:
    path = tmp_path / "annotations/test.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image |= {"name": name, "img_id": 17}
    path.write_text(json.dumps(content))
    truth = read_split(coco, "test").coco
    records = [
        {"image": box["image_id"], "label": box["category_id"] - 7, "bbox": box["bbox"], "score": 1}
        for box in truth["annotations"]
    ]
    detections = StoredDetections.parse(records).positioned(truth)
    metrics = metrics_of(detections, truth).model_dump()
    assert metrics["AP"] == pytest.approx(1)


# --- Units -----------------------------------------------------------------------------------


def spread(count: int = 12) -> list[list[int]]:
    """Return boxes [x, y, width, height] all over an image of 40 x 30 pixels."""
    rng = np.random.default_rng(0)
    corners = rng.integers([0, 0], [30, 20], (count, 2))
    return [[int(x), int(y), 8, 7] for x, y in corners]


def draw_boxes(content: dict[str, Any], boxes: list[list[float]]) -> None:
    content["annotations"] = [
        {"id": i, "image_id": 1 + i % 3, "category_id": 7 + i % 2, "bbox": box, "area": 9}
        for i, box in enumerate(boxes)
    ]


def test_boxes_as_fractions_are_an_error(coco: Dataset, edit: Edit) -> None:
    edit(lambda content: draw_boxes(content, [[x / 40, y / 30, 0.2, 0.3] for x, y, *_ in spread()]))
    message = "the 12 boxes of the split have no number above 1: they look like fractions"
    assert message in errors(check("coco", coco))


def test_corners_instead_of_sides_are_an_error(coco: Dataset, edit: Edit) -> None:
    edit(lambda content: draw_boxes(content, [[x, y, x + w, y + h] for x, y, w, h in spread()]))
    message = "the 12 boxes of the split look like corners [x1, y1, x2, y2]"
    assert message in errors(check("coco", coco))
    edit(lambda content: draw_boxes(content, spread()))
    assert check("coco", coco).usable


def test_sides_instead_of_corners_are_an_error(voc: Dataset, tmp_path: Path) -> None:
    page = tmp_path / "A/Annotations/a1.xml"
    page.write_text(voc_page(*[("cat", (x + 1, y + 1, w, h), 0) for x, y, w, h in spread(40)]))
    other = voc.model_copy(update={"train": ["A/trainval"]})
    (tmp_path / "A/ImageSets/Main/trainval.txt").write_text("a1\n")
    assert "look like [x, y, width, height], because many end before" in errors(check("voc", other))


def test_voc_boxes_as_fractions_are_an_error(voc: Dataset, tmp_path: Path) -> None:
    for path in tmp_path.rglob("*.xml"):
        path.write_text(voc_page(("cat", (0.1, 0.2, 0.5, 0.6), 0), ("dog", (0, 0, 1, 1), 0)))
    assert "write pixels [xmin, ymin, xmax, ymax]" in errors(check("voc", voc))


@pytest.mark.parametrize("seed", range(20))
def test_correct_boxes_are_not_suspected(coco: Dataset, edit: Edit, seed: int) -> None:
    """Boxes are large and small, and some stick out."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(-2, [WIDTH - 4, HEIGHT - 4], (rng.integers(1, 40), 2))
    side = rng.uniform(2, [WIDTH / 2, HEIGHT / 2], low.shape)
    boxes = np.hstack([low, side]).round(1).tolist()
    edit(lambda content: draw_boxes(content, boxes))
    assert check("coco", coco).usable


# --- Categories ------------------------------------------------------------------------------


def test_categories_are_matched_by_name_if_files_disagree_on_the_order(
    coco: Dataset, edit: Edit
) -> None:
    edit(lambda content: content["categories"].reverse())
    report = check("coco", coco)
    assert report.usable
    message = "list the categories in different orders: train has dog, cat, test has cat, dog; both"
    assert f"{message} splits use the order of 'classes' of the entry" in notes(report)
    free = check("coco", without(coco, "classes"))
    assert "use the order of the training file: dog, cat" in notes(free)
    names = [category["name"] for category in read_split(coco, "train").coco["categories"]]
    assert names == ["cat", "dog"]


def add_root(name: str) -> Callable[[dict[str, Any]], Any]:
    def change(content: dict[str, Any]) -> None:
        for category in content["categories"]:
            category["supercategory"] = name
        content["categories"].insert(0, {"id": 0, "name": name, "supercategory": "none"})

    return change


@pytest.mark.parametrize("name", ["pets", "cat"])
def test_a_root_category_is_no_class(coco: Dataset, edit: Edit, name: str) -> None:
    """Roboflow writes root categories, sometimes with the name of a class."""
    edit(add_root(name))
    free = without(coco, "classes")
    assert class_names(free) == ["cat", "dog"]
    for dataset in (free, coco):
        report = check("coco", dataset)
        assert report.usable and report.splits["train"].boxes_per_class == {"cat": 3, "dog": 3}
        assert f"category 0, '{name}', is the supercategory of others and has no box" in notes(
            report
        )


def test_a_supercategory_with_boxes_or_in_the_entry_is_a_class(coco: Dataset, edit: Edit) -> None:
    edit(add_root("pets"))
    with_root = coco.model_copy(update={"classes": ["cat", "dog", "pets"]})
    assert list(check("coco", with_root).splits["train"].boxes_per_class) == ["cat", "dog", "pets"]
    edit(mark(1, category_id=0))
    assert class_names(without(coco, "classes")) == ["pets", "cat", "dog"]


def test_the_loader_assigns_labels_by_name(coco: Dataset, edit: Edit, quiet_mmdet: None) -> None:
    from kd.data.mmdet_datasets import CocoImages

    edit(add_root("cat"))
    edit(lambda content: content["categories"].reverse())
    loaded = CocoImages(
        data_root=coco.root,
        ann_file="annotations/train.json",
        data_prefix={"img": "train"},
        metainfo={"classes": ["cat", "dog"]},
        pipeline=[],
        test_mode=True,
    )
    labels = [[box["bbox_label"] for box in info["instances"]] for info in loaded.load_data_list()]
    assert labels == [[0, 1]] * 3
