"""Messages on files that a data set lacks, and on entries that do not fit its files."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.data.entry import Dataset
from kd.data.readers import class_names, read_split
from tests.support.paths import REPOSITORY


def changed(dataset: Dataset, **values: Any) -> Dataset:
    return Dataset.parse({**dataset.model_dump(), **values}, "entry")


def test_an_absent_data_set_says_how_to_get_it(coco: Dataset, tmp_path: Path) -> None:
    absent = changed(coco, root=str(tmp_path / "nowhere"), fetch="2 GB; run fetch.sh")
    message = r"train\.json: no annotation file, because there is no folder .*nowhere'; 2 GB; run"
    with pytest.raises(UserError, match=message):
        read_split(absent, "train")
    silent = changed(absent, fetch=None)
    with pytest.raises(UserError, match=r"put the data set at '.*nowhere' or correct 'root'"):
        class_names(changed(silent, classes=None))


def test_an_absent_image_folder_is_named(coco: Dataset, voc: Dataset, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(UserError, match="train: no such image folder; add it, or correct its path"):
        read_split(coco, "train")
    shutil.rmtree(tmp_path / "A/JPEGImages")
    with pytest.raises(UserError, match="A/JPEGImages: no such image folder"):
        read_split(voc, "test")


def test_an_absent_image_set_is_named(voc: Dataset) -> None:
    with pytest.raises(
        UserError, match=r"A/ImageSets/Main/val\.txt: no such image set; .*'trainval'"
    ):
        read_split(changed(voc, train=["A/val"]), "train")


def test_a_voc_folder_described_as_coco_is_recognized(voc: Dataset, tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    split = {"annotations": "train.json", "images": "train"}
    entry = changed(voc, format="coco", train=split, test=split)
    with pytest.raises(UserError, match=r"has the layout of VOC: set 'format: voc'"):
        read_split(entry, "train")


def test_a_coco_folder_described_as_voc_is_recognized(coco: Dataset, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations/train.json").write_text("{}")
    entry = changed(coco, format="voc", train=["train"], test=["test"])
    with pytest.raises(UserError, match="annotation files of COCO: set 'format: coco'"):
        read_split(entry, "train")


def test_boxes_of_other_classes_only_are_named(voc: Dataset) -> None:
    with pytest.raises(UserError, match=r"of the classes that 'classes'.*its boxes are .*dog"):
        read_split(changed(voc, classes=["dgo"]), "train")


def test_a_built_in_set_that_is_not_generated_is_named(tmp_path: Path) -> None:
    entry = Dataset.read(REPOSITORY / "configs/datasets/shapes-smoke.yaml")
    with pytest.raises(UserError, match="not generated yet; run `kd generate shapes`"):
        read_split(changed(entry, root=str(tmp_path / "shapes")), "test")
