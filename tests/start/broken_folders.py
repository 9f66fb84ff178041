"""Broken folders: how each is made, and the line that ``kd start`` prints for it."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.start.drawing import coco, coco_content, draw, voc, voc_xml, write, yolo


class Broken(NamedTuple):
    """A folder that cannot be used: its maker, and a pattern of the line."""

    make: Callable[[Path], object]
    pattern: str


def yolo_line(line: str) -> Callable[[Path], object]:
    return lambda root: write(yolo(root) / "labels" / "3.txt", f"0 0.5 0.5 0.2 0.2\n{line}\n")


def data_yaml(text: str) -> Callable[[Path], object]:
    return lambda root: write(yolo(root) / "data.yaml", text)


def voc_file(text: str) -> Callable[[Path], object]:
    return lambda root: write(voc(root) / "Annotations" / "3.xml", text)


def coco_file(**changes: object) -> Callable[[Path], object]:
    return lambda root: coco(root, **changes)


def annotation(**changes: object) -> Callable[[Path], object]:
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], **changes}
    return coco_file(annotations=[{key: one for key, one in box.items() if one is not None}])


def empty_folder(root: Path) -> None:
    root.mkdir()


def archive(root: Path) -> None:
    with zipfile.ZipFile(root, "w") as content:
        content.writestr("a.txt", "0")


def images(root: Path) -> Path:
    for number in range(12):
        draw(root / f"{number}.png")
    return root


def links_in_a_circle(root: Path) -> None:
    images(root)
    (root / "again").symlink_to(root, target_is_directory=True)


def two_jsons(first: str, second: str) -> Callable[[Path], object]:
    def make(root: Path) -> None:
        coco(root).joinpath("annotations.json").unlink()
        for name in (first, second):
            write(root / name, json.dumps(coco_content(["0.png"])))

    return make


def equal_names(root: Path) -> None:
    for folder in ("left", "right"):
        draw(root / folder / "a.png")
    write(root / "annotations.json", json.dumps(coco_content(["a.png"])))


def turned(root: Path) -> None:
    from PIL import Image

    voc(root)
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(root / "JPEGImages" / "turned.jpg", exif=exif)
    write(root / "Annotations" / "turned.xml", voc_xml("turned.jpg"))


def image_sets(root: Path, **lists: str) -> Path:
    for name, text in lists.items():
        write(voc(root) / "ImageSets" / "Main" / f"{name}.txt", text)
    return root


def cvat(text: str) -> Callable[[Path], object]:
    head = "<annotations><version>1.1</version><meta><job><labels>"
    labels = "<label><name>cat</name></label></labels></job></meta>"
    return lambda root: write(
        images(root) / "annotations.xml", f"{head}{labels}{text}</annotations>"
    )


def label_studio(tasks: object) -> Callable[[Path], object]:
    return lambda root: write(images(root) / "export.json", json.dumps(tasks))


def task(**value: object) -> dict:
    result = {"type": "rectanglelabels", "value": value}
    return {"data": {"image": "/data/upload/1/0.png"}, "annotations": [{"result": [result]}]}


def same_images_in_two_splits(root: Path) -> None:
    keys = {"names": ["cat"], "train": "images", "val": "images/more"}
    yolo(root), yolo(root, folder="more")
    write(root / "data.yaml", json.dumps(keys))


def only_broken_images(root: Path) -> None:
    yolo(root)
    for path in (root / "images").iterdir():
        path.write_bytes(b"")


BROKEN: dict[str, Broken] = {
    # --- folders
    "an absent folder": Broken(lambda root: None, r"{root}: no such folder"),
    "a file": Broken(lambda root: write(root, "a"), r"{root}: is a file; give the folder"),
    "an archive": Broken(archive, r"{root}: is an archive; unpack it"),
    "an empty folder": Broken(empty_folder, r"{root}: is empty; put images and labels"),
    "labels without images": Broken(
        lambda root: write(root / "labels/a.txt", "0 0.5 0.5 0.1 0.1"), r"{root}: has no image"
    ),
    "images without labels": Broken(images, r"{root}: has 12 images and no labels; label them"),
    "links in a circle": Broken(links_in_a_circle, r"{root}: has 12 images and no labels"),
    "a table": Broken(
        lambda root: write(images(root) / "_annotations.csv", "a,b"), r"csv: this format is not"
    ),
    "LabelMe": Broken(
        lambda root: write(images(root) / "0.json", '{"shapes": [], "imagePath": "0.png"}'),
        r"0.json: is a file of LabelMe",
    ),
    "two formats": Broken(
        lambda root: (coco(root), yolo(root)), r"several formats: coco \(.*yolo .*--format"
    ),
    "too few images": Broken(
        lambda root: yolo(root, 2), r"{root}: has 2 different training images, too few"
    ),
    "only broken images": Broken(only_broken_images, r"empty; no labeled image can be read"),
    "a test split alone with val": Broken(
        lambda root: (yolo(root, folder="val"), yolo(root, folder="test")),
        r"{root}: has splits test and val, but none to train on",
    ),
    # --- YOLO
    "YOLO: three numbers of a box": Broken(
        yolo_line("1 0.5 0.5 0.2"), r"labels/3.txt: line 2: has 4 numbers; a box has 5"
    ),
    "YOLO: a class out of range": Broken(
        yolo_line("2 0.5 0.5 0.2 0.2"),
        r"3.txt: line 2: class 2, but data.yaml names the classes 0 to 1",
    ),
    "YOLO: a negative class": Broken(
        yolo_line("-1 0.5 0.5 0.2 0.2"), r"line 2: class -1 is not a whole number from 0"
    ),
    "YOLO: a class with a fraction": Broken(
        yolo_line("0.5 0.5 0.5 0.2 0.2"), r"line 2: class 0.5 is not a whole number from 0"
    ),
    "YOLO: NaN": Broken(yolo_line("0 nan 0.5 0.2 0.2"), r"line 2: .* is not finite"),
    "YOLO: infinity": Broken(yolo_line("0 0.5 inf 0.2 0.2"), r"line 2: .* is not finite"),
    "YOLO: pixels": Broken(
        yolo_line("0 30 20 10 10"), r"line 2: 30 is above 1; .* divide pixels by them"
    ),
    "YOLO: a negative size": Broken(
        yolo_line("0 0.5 0.5 -0.2 0.2"), r"line 2: width or height is negative \(-0.2\)"
    ),
    "YOLO: a negative place": Broken(
        yolo_line("0 -0.5 0.5 0.2 0.2"), r"line 2: -0.5 is negative; coordinates are fractions"
    ),
    "YOLO: a confidence": Broken(
        yolo_line("0 0.5 0.5 0.2 0.2 0.9"), r"line 2: has 6 numbers, as detections"
    ),
    "YOLO: half a point of an outline": Broken(
        yolo_line("0 0.1 0.1 0.2 0.1 0.2 0.2 0.3"), r"line 2: has 8 numbers; .* complete it"
    ),
    "YOLO: commas": Broken(yolo_line("0,0.5,0.5,0.2,0.2"), r"line 2: must be numbers with spaces"),
    "YOLO: a name for a class": Broken(
        yolo_line("cat 0.5 0.5 0.2 0.2"), r"line 2: must be numbers with spaces"
    ),
    "YOLO: many broken lines": Broken(
        yolo_line("0 0.5\n0 0.5"), r"line 2: has 2 numbers.*\(and 1 more such fault\)"
    ),
    "YOLO: an encoding": Broken(
        lambda root: (yolo(root) / "labels/3.txt").write_bytes("0 0.5".encode("utf-16")),
        r"labels/3.txt: not a text file in UTF-8",
    ),
    "YOLO: labels of no image": Broken(
        lambda root: [
            path.rename(path.with_stem(f"x{path.stem}"))
            for path in (yolo(root) / "labels").iterdir()
        ],
        r"{root}: no label file belongs to an image",
    ),
    "YOLO: two images of one name": Broken(
        lambda root: draw(yolo(root) / "images/3.jpg"), r"images/3.jpg: 3.png has the same name"
    ),
    "YOLO: no box": Broken(
        lambda root: [
            path.write_text("") for path in (yolo(root) / "labels").iterdir()
        ],
        r"no usable box in it or in the other label files",
    ),
    # --- data.yaml
    "data.yaml: no names": Broken(
        data_yaml("nc: 2\ntrain: images\n"), r"data.yaml: key 'names': is missing; list the class"
    ),
    "data.yaml: no file": Broken(
        lambda root: (yolo(root) / "data.yaml").unlink(), r"{root}/data.yaml: is missing; list"
    ),
    "data.yaml: a gap": Broken(
        data_yaml("names: {0: cat, 2: dog}"), r"key 'names': number 1 is missing between the others"
    ),
    "data.yaml: names as keys": Broken(
        data_yaml("names: {cat: 0, dog: 1}"), r"key 'names': must have numbers before the names"
    ),
    "data.yaml: a count": Broken(
        data_yaml("names: [cat]\nnc: 3"), r"key 'nc': is 3, but 'names' lists 1 classes"
    ),
    "data.yaml: a name twice": Broken(
        data_yaml("names: [cat, cat]"), r"key 'names': class 'cat' is listed twice"
    ),
    "data.yaml: an empty name": Broken(
        data_yaml("names: [cat, '']"), r"key 'names': a class has an empty name"
    ),
    "data.yaml: true and false": Broken(
        data_yaml("names: [yes, no]"), r"key 'names': True is not a text; write the name in quotes"
    ),
    "data.yaml: a text for names": Broken(
        data_yaml("names: cat dog"), r"key 'names': must be a list of names"
    ),
    "data.yaml: no YAML": Broken(data_yaml("names: [cat"), r"data.yaml: not valid YAML at line"),
    "data.yaml: a list": Broken(data_yaml("- cat\n- dog"), r"data.yaml: must have keys such as"),
    "data.yaml: an encoding": Broken(
        lambda root: (yolo(root) / "data.yaml").write_bytes("names: [Übergröße]".encode("latin-1")),
        r"data.yaml: not a text file in UTF-8",
    ),
    "data.yaml: folders of another machine": Broken(
        data_yaml("names: [cat]\ntrain: /content/pictures\nval: /content/others"),
        r"data.yaml: key 'train': no images in the folders of its splits",
    ),
    "data.yaml: a number for a path": Broken(
        data_yaml("names: [cat]\ntrain: 3"), r"data.yaml: key 'train': must be a path, not 3"
    ),
    "data.yaml: a list with an absent image": Broken(
        lambda root: (
            write(yolo(root) / "data.yaml", "{names: [cat], train: train.txt}"),
            write(root / "train.txt", "images/0.png\nimages/99.png\n"),
        ),
        r"train.txt: no image 'images/99.png' below",
    ),
    "data.yaml: overlapping splits": Broken(
        same_images_in_two_splits, r"data.yaml: keys 'train' and 'val' both contain"
    ),
    "data.yaml: two": Broken(
        lambda root: write(yolo(root) / "more" / "data.yaml", "names: [cat]"),
        r"data.yaml: .*data.yaml describes a data set, too",
    ),
    # --- VOC
    "VOC: broken XML": Broken(voc_file(voc_xml()[:60]), r"Annotations/3.xml: not valid XML"),
    "VOC: no name": Broken(
        voc_file(voc_xml().replace("<name>cat</name>", "")),
        r"3.xml: object 1: 'name' is missing; correct it",
    ),
    "VOC: an empty name": Broken(
        voc_file(voc_xml().replace("cat", " ")), r"3.xml: object 1: 'name' is empty"
    ),
    "VOC: a polygon alone": Broken(
        voc_file(voc_xml().replace("bndbox", "polygon")), r"3.xml: object 1: 'bndbox' is missing"
    ),
    "VOC: a corner missing": Broken(
        voc_file(voc_xml().replace("xmax", "right")), r"3.xml: object 1: 'xmax' is missing"
    ),
    "VOC: NaN": Broken(voc_file(voc_xml().replace("30", "nan")), r"'xmax' must be a number"),
    "VOC: another size": Broken(
        voc_file(voc_xml(size=(640, 480))), r"3.xml: states 640 x 480 pixels for 3.png"
    ),
    "VOC: a size of zero": Broken(voc_file(voc_xml(size=(0, 0))), r"3.xml: size: 0 x 0 pixels"),
    "VOC: labeled unturned": Broken(
        turned, r"turned.xml: turned.jpg is turned to 48 x 64 pixels by its EXIF orientation"
    ),
    "VOC: a listed image without annotation": Broken(
        lambda root: image_sets(root, train="0\n99\n"), r"train.txt: line 2: no annotation file"
    ),
    "VOC: an image in two lists": Broken(
        lambda root: image_sets(root, train="0\n1\n", test="1\n"), r"'1' is in split 'test', too"
    ),
    # --- COCO
    "COCO: broken JSON": Broken(
        lambda root: write(coco(root) / "annotations.json", '{"images": ['), r"not valid JSON"
    ),
    "COCO: an encoding": Broken(
        lambda root: (coco(root) / "annotations.json").write_bytes(b"\xff\xfe{}"),
        r"annotations.json: not a text file in UTF-8",
    ),
    "COCO: no categories": Broken(
        lambda root: write(
            coco(root) / "annotations.json",
            json.dumps({k: v for k, v in coco_content(["0.png"]).items() if k != "categories"}),
        ),
        r"annotations.json: key 'categories': is missing",
    ),
    "COCO: empty categories": Broken(
        coco_file(categories=[]), r"annotations.json: 'categories': lists no class"
    ),
    "COCO: a category twice": Broken(
        coco_file(categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]),
        r"'categories': class 'cat' is listed twice",
    ),
    "COCO: a category id twice": Broken(
        coco_file(categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]),
        r"categories\[1\]: id 1 is used twice",
    ),
    "COCO: a category without a name": Broken(
        coco_file(categories=[{"id": 1}]), r"categories\[0\]: key 'name' is missing"
    ),
    "COCO: an image without a file name": Broken(
        coco_file(images=[{"id": 1}]), r"images\[0\]: key 'file_name' is missing"
    ),
    "COCO: an image id twice": Broken(
        coco_file(images=[{"id": 1, "file_name": f"{n}.png"} for n in (0, 1)]),
        r"images\[1\]: id 1 is used twice",
    ),
    "COCO: a box of three numbers": Broken(
        annotation(bbox=[1, 2, 3]), r"annotations\[0\]: 'bbox' must be four numbers"
    ),
    "COCO: a box of texts": Broken(
        annotation(bbox=["1", 2, 3, 4]), r"annotations\[0\]: 'bbox' must be four numbers"
    ),
    "COCO: NaN": Broken(annotation(bbox=[float("nan"), 2, 3, 4]), r"'bbox' must be four numbers"),
    "COCO: no box and no outline": Broken(
        annotation(bbox=None), r"annotations\[0\]: key 'bbox' is missing"
    ),
    "COCO: a mask that cannot be decoded": Broken(
        annotation(bbox=None, segmentation={"size": [0], "counts": 3}), r"'bbox' is missing"
    ),
    "COCO: an absent image id": Broken(
        annotation(image_id=99), r"annotations\[0\]: no image has id 99"
    ),
    "COCO: an absent category id": Broken(
        annotation(category_id=0), r"annotations\[0\]: no category has id 0"
    ),
    "COCO: iscrowd": Broken(annotation(iscrowd=2), r"annotations\[0\]: 'iscrowd' must be 0 or 1"),
    "COCO: another size": Broken(
        coco_file(images=[{"id": 1, "file_name": "0.png", "width": 6, "height": 4}],
                  annotations=[]),
        r"states 6 x 4 pixels for 0.png, which has 64 x 48",
    ),
    "COCO: no image exists": Broken(
        coco_file(images=[{"id": 1, "file_name": "x.png"}], annotations=[]),
        r"none of its 1 images exists",
    ),
    "COCO: two files of one split": Broken(
        two_jsons("train.json", "instances_train2017.json"), r"train.json: has split 'train', as"
    ),
    "COCO: two files without a split": Broken(
        two_jsons("a.json", "b.json"), r"b.json: has no split by name or folder, as"
    ),
    "COCO: a file without a split": Broken(
        two_jsons("a.json", "train.json"), r"a.json: neither its name nor its folder names a split"
    ),
    "COCO: an image in two files": Broken(
        two_jsons("val.json", "train.json"), r"val.json: image '.*0.png' is in another"
    ),
    "COCO: two images of one name": Broken(equal_names, r"2 images are named 'a.png'"),
    "COCO: results": Broken(
        lambda root: write(images(root) / "a.json", "[1, 2]"), r"a.json: has none of the lists of"
    ),
    # --- CVAT, Label Studio
    "CVAT: a video": Broken(
        cvat('<track id="0" label="cat"><box frame="0"/></track>'), r"tracks of a video"
    ),
    "CVAT: a text for a number": Broken(
        cvat('<image id="0" name="0.png" width="64" height="48"><box label="cat" xtl="a" ytl="1" '
             'xbr="9" ybr="9"/></image>'),
        r"annotations.xml: .*invalid xtl: a; export the task again",
    ),
    "CVAT: no image exists": Broken(
        cvat('<image id="0" name="x.png" width="64" height="48"></image>'), r"none of its 1 images"
    ),
    "Label Studio: no rectangle": Broken(
        label_studio([task(rectanglelabels=["cat"], x="a")]), r"task 0, result 0: is no rectangle"
    ),
    "Label Studio: no image": Broken(
        label_studio([{"data": {"text": 3}, "annotations": []}]), r"task 0: has no image"
    ),
    "Label Studio: absent images": Broken(
        label_studio([{"data": {"image": "x.png"}, "annotations": []}]), r"none of its images"
    ),
    "Label Studio: an image twice": Broken(
        label_studio([task(rectanglelabels=["cat"], x=1, y=1, width=9, height=9)] * 2),
        r"task 1: .*0.png is labeled in another task",
    ),
}  # fmt: skip
