"""Boxes of each format by hand, the layouts of tools, and splits."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from kd.common.errors import UserError
from kd.start.dividing import divide
from kd.start.folder import Folder
from kd.start.labels import Labels
from kd.start.pictures import alike, decode_pictures
from kd.start.reading import read_labels
from kd.start.samples import Sample, samples_of
from tests.start.drawing import CLASSES, coco_content, draw, voc_xml, write, yolo

LINE = "1 0.5 0.25 0.25 0.125\n"
"""In an image of 64 x 48: left 24, top 9, width 16, height 6."""
BOX = ("dog", 24.0, 9.0, 16.0, 6.0)


def boxes(root: Path, name: str | None = None) -> dict[str, list[tuple]]:
    """Return the boxes of each image in pixels, by its path below the folder."""
    _, samples = read(root, name)
    return {
        str(one.path.relative_to(root)): [(box.name, *box.xywh) for box in one.boxes]
        for one in samples
    }


def read(root: Path, name: str | None = None) -> tuple[Labels, list[Sample]]:
    labels = read_labels(Folder(root), name)
    return labels, samples_of(labels, decode_pictures([one.path for one in labels.images]))


def splits(root: Path) -> dict[str, str | None]:
    return {one.path.name: one.split for one in read(root)[1]}


# --- YOLO ------------------------------------------------------------------------------------


def data_yaml(root: Path, **keys: object) -> None:
    write(root / "data.yaml", json.dumps({"names": CLASSES, **keys}))


def test_yolo_centers_become_corners(tmp_path: Path) -> None:
    draw(tmp_path / "images/a.png")
    write(tmp_path / "labels/a.txt", LINE)
    data_yaml(tmp_path)
    assert boxes(tmp_path) == {"images/a.png": [BOX]}


def test_yolo_fractions_are_of_the_turned_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: 64 x 48 stored pixels are loaded as 48 x 64
    draw(tmp_path / "images/a.JPG", format="JPEG", exif=exif)
    write(tmp_path / "labels/a.txt", LINE)
    data_yaml(tmp_path)
    assert boxes(tmp_path) == {"images/a.JPG": [("dog", 18, 12, 12, 8)]}


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ({"0": "cat", "1": "dog"}, ""),
        (["Katze über", "dog"], "nc: 2"),
        (["a b", "dog"], "path: /content/set"),
    ],
)
def test_names_may_be_a_mapping_or_have_spaces_and_umlauts(
    tmp_path: Path, names: object, keys: str
) -> None:
    yolo(tmp_path, 1)
    text = f"names: {json.dumps(names, ensure_ascii=False)}".replace('"0"', "0").replace('"1"', "1")
    write(tmp_path / "data.yaml", f"{text}\n{keys}\n")
    expected = [*names.values()] if isinstance(names, dict) else names
    assert read(tmp_path)[0].classes == expected


def test_outlines_and_rotated_boxes_become_the_boxes_around_them(tmp_path: Path) -> None:
    draw(tmp_path / "images/a.png")
    write(tmp_path / "labels/a.txt", "0 .5 .25 .75 .5 .5 .75 .25 .5\n1 .25 .5 .5 .5 .25 1")
    data_yaml(tmp_path)
    assert boxes(tmp_path) == {"images/a.png": [("cat", 16, 12, 32, 24), ("dog", 16, 24, 16, 24)]}


def test_an_image_without_a_label_has_no_object(tmp_path: Path) -> None:
    yolo(tmp_path, 1)
    draw(tmp_path / "images/b.png")
    write(tmp_path / "labels/c.txt", LINE)
    labels, samples = read(tmp_path)
    assert [len(one.boxes) for one in samples] == [1, 0]
    assert [one.kind for one in labels.left_out] == ["label files without an image"]


ULTRALYTICS = {"train": "images/train", "val": "images/val"}
LAYOUTS = {
    "Ultralytics": ("images/{}/{}", "labels/{}/{}", ULTRALYTICS),
    "Ultralytics on another machine": (
        "images/{}/{}", "labels/{}/{}", {"path": "/home/me/set", **ULTRALYTICS},
    ),
    "absolute paths of another machine": (
        "images/{}/{}", "labels/{}/{}",
        {split: f"/content/set/images/{split}" for split in ("train", "val")},
    ),
    "Roboflow": (
        "{}/images/{}", "{}/labels/{}", {"train": "../train/images", "val": "../val/images"},
    ),
    "folders of splits without keys": ("{}/{}", "{}/{}", {}),
    "labels apart": ("{}/{}", "labels/{}/{}", {"train": "train", "val": ["val"]}),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_yolo(tmp_path: Path, layout: str) -> None:
    image_place, label_place, keys = LAYOUTS[layout]
    for split in ("train", "val"):
        draw(tmp_path / image_place.format(split, f"{split}.png"))
        write(tmp_path / label_place.format(split, f"{split}.txt"), LINE)
    data_yaml(tmp_path, **keys)
    assert splits(tmp_path) == {"train.png": "train", "val.png": "val"}
    assert [*boxes(tmp_path).values()] == [[BOX], [BOX]]


def test_a_list_of_images_is_a_split(tmp_path: Path) -> None:
    yolo(tmp_path, 3)
    write(tmp_path / "train.txt", "./images/0.png\n/other/machine/images/1.png\n")
    data_yaml(tmp_path, train="train.txt")
    labels, _ = read(tmp_path)
    assert splits(tmp_path) == {"0.png": "train", "1.png": "train"}
    assert [Path(one.place).name for one in labels.left_out] == ["2.png"]


@pytest.mark.parametrize("file", ["classes.txt", "obj.names"])
def test_a_text_file_may_list_the_classes(tmp_path: Path, file: str) -> None:
    draw(tmp_path / "obj_train_data/a.png")
    write(tmp_path / "obj_train_data/a.txt", LINE)
    write(tmp_path / file, "cat\ndog\n")
    assert boxes(tmp_path) == {"obj_train_data/a.png": [BOX]}


# --- VOC -------------------------------------------------------------------------------------


def test_voc_counts_pixels_from_one(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    objects = [("cat", (1, 1, 64, 48)), ("dog", (25.9, 10, 41, 16))]
    write(tmp_path / "a.xml", voc_xml("other.png", objects=objects))
    assert boxes(tmp_path) == {"a.png": [("cat", 0, 0, 63, 47), ("dog", 24, 9, 16, 6)]}


def test_voc_without_a_size_uses_that_of_the_image(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    write(tmp_path / "a.xml", voc_xml(size=None))
    assert boxes(tmp_path) == {"a.png": [("cat", 10, 5, 19, 19)]}


def test_difficult_objects_are_ignored_as_the_project_reader_does(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    text = voc_xml().replace("<bndbox>", "<difficult>1</difficult><bndbox>")
    write(tmp_path / "a.xml", text)
    assert read(tmp_path)[1][0].boxes[0].ignored


def test_roboflow_and_image_sets_state_splits_of_voc(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        draw(tmp_path / "roboflow" / split / f"{split}.jpg")
        write(tmp_path / "roboflow" / split / f"{split}.xml", voc_xml(f"{split}.jpg"))
    assert splits(tmp_path / "roboflow") == {
        "train.jpg": "train", "valid.jpg": "val", "test.jpg": "test",
    }  # fmt: skip
    for name in "abc":
        draw(tmp_path / "voc/JPEGImages" / f"{name}.jpg")
        write(tmp_path / "voc/Annotations" / f"{name}.xml", voc_xml(f"{name}.jpg"))
    for name, text in (("trainval", "a\nb"), ("val", "b"), ("test", "c"), ("cat_train", "a 1")):
        write(tmp_path / "voc/ImageSets/Main" / f"{name}.txt", text)
    assert splits(tmp_path / "voc") == {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}


# --- COCO ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("json_place", "image_place"),
    [
        ("annotations/instances_{}2017.json", "{}2017/{}"),
        ("annotations/instances_{}2017.json", "images/{}2017/{}"),
        ("{}/_annotations.coco.json", "{}/{}"),
        ("{}.json", "images/{}/{}"),
    ],
)
def test_layouts_of_coco(tmp_path: Path, json_place: str, image_place: str) -> None:
    for split in ("train", "val"):
        draw(tmp_path / image_place.format(split, "0.png"), seed=len(split))  # equal names
        write(tmp_path / json_place.format(split), json.dumps(coco_content(["0.png"])))
    _, samples = read(tmp_path)
    assert {one.path.relative_to(tmp_path).as_posix(): one.split for one in samples} == {
        image_place.format(split, "0.png"): split for split in ("train", "val")
    }
    assert [[box.xywh for box in one.boxes] for one in samples] == [[(10, 5, 20, 20)]] * 2


def test_other_tasks_of_coco_and_roots_of_roboflow_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "val2017/0.png")
    names = [("animals", "none"), ("cat", "animals"), ("dog", "animals")]
    categories = [
        {"id": number, "name": name, "supercategory": above}
        for number, (name, above) in enumerate(names)
    ]
    write(
        tmp_path / "annotations/instances_val2017.json",
        json.dumps(coco_content(["0.png"], categories=categories)),
    )
    captions = {"images": [], "annotations": [{"caption": "a"}]}
    write(tmp_path / "annotations/captions_val2017.json", json.dumps(captions))
    labels, _ = read(tmp_path)
    assert labels.classes == ["cat", "dog"]
    assert [one.kind for one in labels.left_out] == ["annotation files of other tasks"]


def test_crowds_stay_crowds_and_category_zero_is_a_class(tmp_path: Path) -> None:
    draw(tmp_path / "0.png")
    box = {"id": 5, "image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4], "iscrowd": 1}
    content = coco_content(["0.png"], annotations=[box], categories=[{"id": 0, "name": "cat"}])
    write(tmp_path / "a.json", json.dumps(content))
    (sample,) = read(tmp_path)[1]
    assert [(one.name, one.xywh, one.crowd) for one in sample.boxes] == [
        ("cat", (1, 2, 3, 4), True)
    ]


# --- CVAT, Label Studio ----------------------------------------------------------------------

CVAT = """<annotations><version>1.1</version><meta><{0}><labels><label><name>cat</name></label>
<label><name>dog</name></label></labels></{0}></meta>
<image id="0" name="sub/0.png" subset="Validation" width="64" height="48">
<box label="dog" xtl="24" ytl="9" xbr="40" ybr="15"/>
<polygon label="dog" points="0,0;10,0;10,20"/></image></annotations>"""


@pytest.mark.parametrize("owner", ["task", "job", "project"])
def test_cvat(tmp_path: Path, owner: str) -> None:
    draw(tmp_path / "sub/0.png")
    write(tmp_path / "annotations.xml", CVAT.format(owner))
    assert boxes(tmp_path) == {"sub/0.png": [BOX, ("dog", 0, 0, 10, 20)]}
    assert read(tmp_path)[0].classes == CLASSES
    assert splits(tmp_path) == {"0.png": "val"}


RECTANGLE = {"x": 37.5, "y": 18.75, "width": 25, "height": 12.5, "rectanglelabels": ["dog"]}
TASKS = {
    "JSON": [{
        "data": {"image": "/data/upload/1/0a1b2c3d-0.png"},
        "annotations": [
            {"was_cancelled": True, "result": []},
            {"result": [{"type": "rectanglelabels", "value": RECTANGLE}]},
        ],
    }],
    "JSON of local files": [{
        "data": {"img": "/data/local-files/?d=sub%2F0.png"},
        "annotations": [{"result": [{"value": {
            "points": [[37.5, 18.75], [62.5, 18.75], [62.5, 31.25]], "polygonlabels": ["dog"],
        }}]}],
    }],
    "JSON-MIN": [{"image": "s3://bucket/0.png", "annotator": 1, "label": [RECTANGLE]}],
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_label_studio(tmp_path: Path, name: str) -> None:
    draw(tmp_path / "0.png")
    write(tmp_path / "project.json", json.dumps(TASKS[name]))
    assert boxes(tmp_path) == {"0.png": [BOX]}


def test_a_format_is_chosen_where_several_are_present(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    write(tmp_path / "a.xml", voc_xml())
    write(tmp_path / "a.txt", LINE)
    write(tmp_path / "classes.txt", "cat\ndog")
    with pytest.raises(UserError, match=r"several formats: voc \(.*a.xml\) and yolo .*--format"):
        read(tmp_path)
    assert boxes(tmp_path, "yolo") == {"a.png": [BOX]}
    assert boxes(tmp_path, "voc") == {"a.png": [("cat", 10, 5, 19, 19)]}


# --- Splits ----------------------------------------------------------------------------------


def divided(root: Path, seed: int = 0) -> dict[str, set[str]]:
    _, samples = read(root)
    groups = alike([one.path for one in samples], decode_pictures([one.path for one in samples]))
    division = divide(samples, groups, {"val": 0.1, "test": 0.2}, seed, root)
    return {split: {one.path.name for one in part} for split, part in division.splits.items()}


def test_splits_are_disjoint_complete_and_reproducible(tmp_path: Path) -> None:
    yolo(tmp_path, 40)
    for number in range(10):
        write(tmp_path / "labels" / f"{number}.txt", LINE)
    parts = divided(tmp_path)
    sizes = [len(parts[split]) for split in ("train", "val", "test")]
    assert all(abs(size - share) <= 1 for size, share in zip(sizes, (28, 4, 8), strict=True))
    assert sum(sizes) == len(set().union(*parts.values())) == 40
    dogs = {f"{number}.png" for number in range(10)}
    assert [len(parts[split] & dogs) for split in ("train", "val", "test")] == [7, 1, 2]
    assert divided(tmp_path) == parts
    assert divided(tmp_path, seed=1) != parts
    shutil.move(tmp_path, tmp_path.with_name("moved"))
    assert divided(tmp_path.with_name("moved")) == parts


def test_almost_equal_images_are_in_one_split(tmp_path: Path) -> None:
    yolo(tmp_path, 30)
    for number in range(6):  # copies that JPEG changes a little
        image = tmp_path / "images" / f"copy{number}.jpg"
        Image.open(tmp_path / "images/0.png").save(image, quality=90 - number)
        write(tmp_path / "labels" / f"copy{number}.txt", LINE)
    for number in range(6):  # augmented copies of Roboflow differ in their pixels
        draw(tmp_path / "images" / f"a_png.rf.{number}abc.png")
    copies = [{"0.png", *(f"copy{n}.jpg" for n in range(6))}]
    copies += [{f"a_png.rf.{n}abc.png" for n in range(6)}]
    for seed in range(3):
        for part in divided(tmp_path, seed).values():
            assert all(group <= part or not group & part for group in copies)


def test_a_missing_test_split_is_split_off_train(tmp_path: Path) -> None:
    for split, count in (("train", 20), ("val", 5)):
        yolo(tmp_path / "set", count, folder=split)
    for index, path in enumerate(sorted((tmp_path / "set/images/val").iterdir())):
        draw(path, seed=1000 + index)
        path.rename(path.with_stem(f"v{index}"))
        (tmp_path / "set/labels/val" / f"{path.stem}.txt").rename(
            tmp_path / "set/labels/val" / f"v{index}.txt"
        )
    parts = divided(tmp_path / "set")
    assert {split: len(names) for split, names in parts.items()} == {
        "train": 15, "val": 5, "test": 5,
    }  # fmt: skip
    assert parts["val"] == {f"v{index}.png" for index in range(5)}
