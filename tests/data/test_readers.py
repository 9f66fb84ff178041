"""Splits have the content that mmdet reads, and bad input is one clear sentence."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.data.builtin.shapes import generate
from kd.data.entry import Dataset
from kd.data.readers import class_names, image_path, read_split
from tests.support.paths import REPOSITORY

Edit = Callable[[Callable[[dict[str, Any]], Any]], None]


def changed(dataset: Dataset, **values: Any) -> Dataset:
    return Dataset.parse({**dataset.model_dump(), **values}, "entry")


def test_coco_is_read_as_it_is_written(coco: Dataset) -> None:
    truth = read_split(coco, "train")
    assert [image["id"] for image in truth.coco["images"]] == [1, 2, 3]
    assert truth.coco["annotations"][1] == {
        "id": 3,
        "image_id": 1,
        "category_id": 8,
        "bbox": [20, 5.5, 10, 5],
        "area": 50,
        "iscrowd": 0,
    }
    assert [category["id"] for category in truth.coco["categories"]] == [7, 8]
    assert truth.dropped == []
    assert image_path(coco, "train", truth.coco["images"][0]).is_file()


def test_voc_boxes_are_counted_from_zero(voc: Dataset) -> None:
    truth = read_split(voc, "train")
    names = [(image["id"], image["img_id"]) for image in truth.coco["images"]]
    assert names == [(1, "a1"), (2, "a2"), (3, "b1")]
    cat, dog = truth.coco["annotations"][:2]
    assert cat["bbox"] == [0, 0, 39, 29] and cat["area"] == 39 * 29
    assert dog["bbox"] == [4, 5, 10, 10]
    assert (dog["difficult"], dog["ignore"], dog["iscrowd"]) == (1, 1, 0)
    assert (cat["difficult"], cat["ignore"]) == (0, 0)
    assert all(image_path(voc, "train", image).is_file() for image in truth.coco["images"])


def test_classes_are_read_if_the_entry_has_none(coco: Dataset) -> None:
    assert class_names(changed(coco, classes=None)) == ["cat", "dog"]
    assert class_names(changed(coco, classes=["dog"])) == ["dog"]


def test_voc_classes_are_the_sorted_names_of_the_training_split(
    voc: Dataset, tmp_path: Path
) -> None:
    page = tmp_path / "A/Annotations/a3.xml"
    page.write_text(page.read_text().replace("cat", "ape"))
    free = changed(voc, classes=None)
    assert class_names(free) == ["cat", "dog"]
    test = read_split(free, "test")
    assert [a["category_id"] for a in test.coco["annotations"]] == [2]
    assert test.dropped[0].reason == "1 boxes of 'ape' in the split, which 'classes' does not list"


def test_categories_keep_the_order_of_the_file(coco: Dataset, edit: Edit) -> None:
    edit(lambda content: content["categories"].reverse())
    assert class_names(changed(coco, classes=None)) == ["dog", "cat"]


def test_a_subset_of_the_classes_drops_the_other_boxes(coco: Dataset) -> None:
    truth = read_split(changed(coco, classes=["dog"]), "train")
    assert {a["category_id"] for a in truth.coco["annotations"]} == {8}
    assert [category["name"] for category in truth.coco["categories"]] == ["dog"]
    reason = "3 boxes of category 'cat', which 'classes' of the entry does not list"
    assert [problem.reason for problem in truth.dropped] == [reason]


@pytest.mark.parametrize(
    ("box", "area", "reason"),
    [
        ([1, 2, 0, 5], 50, "box [1, 2, 0, 5] (xywh) of annotation 2, image '1.png' has no area"),
        ([9, 2, -4, 5], 50, "has no area"),
        ([41, 2, 10, 5], 50, "lies outside the image"),
        ([-10, 2, 10, 5], 50, "lies outside the image"),
        ([1, 2, 10, 5], 0, "annotation 2, image '1.png': 'area' is 0"),
    ],
)
def test_boxes_without_area_in_the_image_are_dropped(
    coco: Dataset, edit: Edit, box: list[int], area: int, reason: str
) -> None:
    edit(lambda content: content["annotations"][0].update(bbox=box, area=area))
    truth = read_split(coco, "train")
    assert len(truth.coco["annotations"]) == 5
    assert len(truth.dropped) == 1 and reason in truth.dropped[0].reason
    assert truth.dropped[0].file.endswith("annotations/train.json")


def test_a_box_that_sticks_out_is_kept_as_written(coco: Dataset, edit: Edit) -> None:
    edit(lambda content: content["annotations"][0].update(bbox=[-5, 2, 20, 40]))
    truth = read_split(coco, "train")
    assert truth.coco["annotations"][0]["bbox"] == [-5, 2, 20, 40] and not truth.dropped


def test_the_fingerprint_follows_annotations_and_images(coco: Dataset, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return read_split(coco, "train").fingerprint

    digests = [fingerprint()]
    assert digests == [fingerprint()]
    annotations = tmp_path / "annotations/train.json"
    annotations.write_text(annotations.read_text() + "\n")
    digests.append(fingerprint())
    image = tmp_path / "train/1.png"
    data = bytearray(image.read_bytes())
    data[-20] ^= 1  # the size stays the same
    image.write_bytes(data)
    digests.append(fingerprint())
    image.unlink()
    digests.append(fingerprint())
    assert len(set(digests)) == 4


def test_the_fingerprint_does_not_depend_on_the_folder(coco: Dataset, tmp_path: Path) -> None:
    before = read_split(coco, "train").fingerprint
    shutil.copytree(tmp_path / "train", tmp_path / "moved/train")
    shutil.copytree(tmp_path / "annotations", tmp_path / "moved/annotations")
    moved = changed(coco, root=str(tmp_path / "moved"))
    assert read_split(moved, "train").fingerprint == before


def at(key: str, index: int, **values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content[key][index].update(values)


def without(key: str, index: int, name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content[key][index].pop(name)


BAD_COCO: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda c: c.pop("images"), "key 'images' is missing"),
    (lambda c: c.update(images={}), "'images' must be a list"),
    (lambda c: c.update(images=[]), "no image has id 1"),
    (lambda c: c.update(images=[], annotations=[]), "split 'train' has no images"),
    (lambda c: c.update(annotations=[]), "split 'train' has no boxes"),
    (lambda c: c.pop("categories"), "key 'categories' is missing"),
    (lambda c: c["images"].append(3), r"images\[3\]: must be an object"),
    (without("images", 1, "width"), r"images\[1\]: key 'width' is missing"),
    (without("images", 1, "file_name"), r"images\[1\]: key 'file_name' is missing"),
    (at("images", 0, width=0), r"images\[0\]: 'width' must be a whole number above 0, not 0"),
    (at("images", 0, height="30"), "'height' must be a whole number above 0, not '30'"),
    (at("images", 0, file_name=None), "'file_name' must be a text, not None"),
    (at("images", 1, id=1), r"images\[1\]: id 1 is used twice"),
    (at("images", 1, id=True), "'id' must be a whole number, not True"),
    (at("images", 1, id=10**30), "'id' must be a whole number, not 1000"),
    (at("images", 1, file_name="1.png"), "images: file_name '1.png' is used 2 times"),
    (at("categories", 1, id=7), r"categories\[1\]: id 7 is used twice"),
    (at("categories", 1, name="cat"), "categories: name 'cat' is used 2 times"),
    (
        at("categories", 1, name="dgo"),
        "no category 'dog', which 'classes' of the entry lists; did you mean",
    ),
    (without("annotations", 0, "bbox"), r"annotations\[0\]: key 'bbox' is missing"),
    (without("annotations", 0, "area"), r"annotations\[0\]: key 'area' is missing"),
    (at("annotations", 0, bbox=[1, 2, 3]), "'bbox' must be four numbers"),
    (at("annotations", 0, bbox=[1, 2, 3, float("nan")]), "'bbox' must be four numbers"),
    (at("annotations", 0, bbox=[1, 2, 3, 10**400]), "'bbox' must be four numbers"),
    (at("annotations", 0, bbox={}), "'bbox' must be four numbers"),
    (at("annotations", 0, area="50"), "'area' must be a number, not '50'"),
    (at("annotations", 0, image_id=99), "annotation 2: no image has id 99"),
    (at("annotations", 0, category_id=1), "annotation 2: no category has id 1"),
    (at("annotations", 0, id=3), r"annotations\[1\]: id 3 is used twice"),
    (at("annotations", 0, iscrowd="no"), "'iscrowd' must be 0 or 1, not 'no'"),
]


@pytest.mark.parametrize(("change", "message"), BAD_COCO)
def test_bad_coco_is_refused(
    coco: Dataset, edit: Edit, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit(change)
    with pytest.raises(UserError, match=message):
        read_split(coco, "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ('{"images": [', "not valid JSON"),
        ("[]", "must be an object with 'images'"),
        ("[" * 100_000, "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("\ufeff{}", "not valid JSON: Unexpected UTF-8 BOM"),
    ],
)
def test_text_that_is_not_coco_is_refused(
    coco: Dataset, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "annotations/train.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=rf"train\.json: {message}"):
        read_split(coco, "train")


PAGE = "<annotation><size><width>40</width><height>30</height></size>{}</annotation>"
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox>"
BAD_VOC: list[tuple[str, str]] = [
    ("", "not valid XML"),
    ("<annotation>", "not valid XML"),
    ("<?xml version='1.0' encoding='klingon'?><annotation/>", "not valid XML"),
    (PAGE.replace("40", "40.5").format(""), "size: 'width' must be a whole number, not '40.5'"),
    (PAGE.replace("40", "0").format(""), "size: 0 x 30 pixels"),
    (PAGE.replace("<width>40</width>", "").format(""), "size: 'width' is missing"),
    (PAGE.format("<object><name>cat</name></object>"), "object 1: 'bndbox' is missing"),
    (PAGE.format("<object>" + BOX.format(5) + "</object>"), "object 1: 'name' is missing"),
    (PAGE.format("<object><name/>" + BOX.format(5) + "</object>"), "object 1: 'name' is empty"),
    (
        PAGE.format("<object><name>cat</name>" + BOX.format("wide") + "</object>"),
        "object 1: 'xmax' must be a number, not 'wide'",
    ),
    (
        PAGE.format("<object><name>cat</name>" + BOX.format("inf") + "</object>"),
        "object 1: 'xmax' must be a number, not 'inf'",
    ),
    (
        PAGE.format("<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>"),
        "object 1: 'ymin' is missing",
    ),
    (
        PAGE.format("<object><difficult>maybe</difficult>" + BOX.format(5) + "</object>"),
        "object 1: 'difficult' must be a whole number, not 'maybe'",
    ),
]


@pytest.mark.parametrize(("page", "message"), BAD_VOC)
def test_bad_voc_is_refused(voc: Dataset, tmp_path: Path, page: str, message: str) -> None:
    (tmp_path / "A/Annotations/a2.xml").write_text(page)
    with pytest.raises(UserError, match=rf"a2\.xml: {message}"):
        read_split(voc, "train")


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (b"a1\n\na2\n", "line 2: must be one image name, not ''"),
        (b"a1  1\na2 -1\n", "line 1: must be one image name, not 'a1  1'"),
        (b"a1\na1\n", "line 2: 'a1' is listed before, in .*trainval.txt"),
        (b"\xff\xfe", "not a text file in UTF-8"),
        (b"", "has no boxes|has no images"),
        (b"a9\n", "a9.xml: no such annotation file; add it, or remove 'a9' from the image set"),
        (b"a\0b\n", "line 1: must be one image name"),
    ],
)
def test_bad_image_sets_are_refused(
    voc: Dataset, tmp_path: Path, listing: bytes, message: str
) -> None:
    (tmp_path / "A/ImageSets/Main/trainval.txt").write_bytes(listing)
    with pytest.raises(UserError, match=message):
        read_split(changed(voc, train=["A/trainval"]), "train")


def test_a_missing_size_is_taken_from_the_image(voc: Dataset, tmp_path: Path) -> None:
    page = tmp_path / "A/Annotations/a1.xml"
    text = page.read_text()
    page.write_text(text[: text.index("<size>")] + text[text.index("</size>") + 7 :])
    assert read_split(voc, "train").coco["images"][0]["width"] == 40
    (tmp_path / "A/JPEGImages/a1.jpg").unlink()
    with pytest.raises(UserError, match=r"a1\.xml: has no 'size', and the image cannot be read"):
        read_split(voc, "train")


def test_the_built_in_set_is_read(tmp_path: Path) -> None:
    entry = Dataset.read(REPOSITORY / "configs/datasets/shapes-smoke.yaml")
    small = changed(entry, root=str(tmp_path / "set"), generate={"train": 4, "test": 2, "size": 64})
    assert small.generate is not None
    generate(small.generate, tmp_path / "set")
    truth = read_split(small, "train")
    assert len(truth.coco["images"]) == 4 and not truth.dropped
    assert [c["name"] for c in truth.coco["categories"]] == small.classes


def test_many_errors_are_shortened(coco: Dataset, edit: Edit) -> None:
    edit(lambda content: [a.pop("bbox") for a in content["annotations"]])
    with pytest.raises(UserError) as caught:
        read_split(coco, "train")
    lines = str(caught.value).splitlines()
    assert len(lines) == 6 and lines[-1] == "and 1 more; `kd check` lists all"


def test_bccd_has_its_published_counts(bccd: Dataset) -> None:
    train, test = read_split(bccd, "train"), read_split(bccd, "test")
    assert (len(train.coco["images"]), len(test.coco["images"])) == (292, 72)
    assert (len(train.coco["annotations"]), len(test.coco["annotations"])) == (3943 - 2, 945)
    assert class_names(bccd) == ["Platelets", "RBC", "WBC"]
    counts = Counter(a["category_id"] for a in train.coco["annotations"] + test.coco["annotations"])
    assert counts == {1: 361, 2: 4155 - 2, 3: 372}
    assert [Path(problem.file).name for problem in train.dropped] == [
        "BloodImage_00338.xml",
        "BloodImage_00343.xml",
    ]
    assert train.dropped[0].reason == "box [503, 336, 0, 0] (xywh) of RBC has no area"
    assert not test.dropped


def test_voc_is_read_as_mmdet_reads_it(bccd: Dataset, voc: Dataset) -> None:
    mmcv_ops = pytest.importorskip("kd.models.mmcv_ops")
    mmcv_ops.install()
    datasets = pytest.importorskip("mmdet.datasets")
    for dataset, image_set in ((bccd, "test"), (voc, "A/trainval")):
        folder, _, name = image_set.rpartition("/")
        classes = class_names(dataset)
        theirs = datasets.XMLDataset(
            data_root=os.path.join(dataset.root, folder, ""),
            ann_file=f"ImageSets/Main/{name}.txt",
            data_prefix={"sub_data_root": ""},
            metainfo={"classes": tuple(classes)},
            test_mode=True,
            pipeline=[],
        )
        split = "test" if name == "test" else "train"
        ours = read_split(dataset, split).coco
        for image, info in zip(ours["images"], theirs.load_data_list(), strict=False):
            boxes = [a for a in ours["annotations"] if a["image_id"] == image["id"]]
            corners = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in boxes)]
            assert image["img_id"] == info["img_id"]
            assert (image["width"], image["height"]) == (info["width"], info["height"])
            instances = info["instances"]
            assert corners == [instance["bbox"] for instance in instances]
            labels = [box["category_id"] - 1 for box in boxes]
            assert labels == [instance["bbox_label"] for instance in instances]
            flags = [instance["ignore_flag"] for instance in instances]
            assert [box["ignore"] for box in boxes] == flags


def test_further_keys_are_ignored(coco: Dataset, edit: Edit) -> None:
    edit(lambda content: content.update(info=None, licenses=[]))
    assert len(read_split(coco, "train").coco["images"]) == 3


def test_a_broken_image_record_is_reported_once(coco: Dataset, edit: Edit) -> None:
    edit(at("images", 0, width=0))
    with pytest.raises(UserError) as caught:
        read_split(coco, "train")
    assert len(str(caught.value).splitlines()) == 1
