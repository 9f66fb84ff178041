"""Records with COCO's oddities are read as mmdet and pycocotools read them.

The records are written by hand and by the stand-in of COCO.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kd.data import image_files
from kd.data.check import check
from kd.data.entry import Dataset
from kd.data.fingerprint import stamp_of
from kd.data.readers import read_split
from kd.data.stand_in.writing import write_stand_in
from kd.evaluation.evaluate import metrics_of
from tests.support.paths import REPOSITORY

CLASSES = ["kite", "person", "dog"]
CATEGORY_IDS = {"kite": 38, "person": 1, "dog": 18}
CROWD = {"counts": [0, 30, 1170], "size": [30, 40]}
SQUARE = [[5.5, 5.5, 15.25, 5.5, 15.25, 20.0]]


def box(identity: int, image: int, name: str, xywh: list[float], **keys: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "image_id": image,
        "category_id": CATEGORY_IDS[name],
        "bbox": xywh,
        "area": xywh[2] * xywh[3],
        "iscrowd": 0,
        **keys,
    }


BOXES = [
    box(9, 42, "dog", [5.5, 5.5, 9.75, 14.5], segmentation=SQUARE),
    box(4, 7, "person", [0, 0, 40, 30]),
    box(900100000001, 42, "person", [0, 0, 1, 30], iscrowd=1, segmentation=CROWD),
    box(2, 42, "person", [3, 3, 0, 10], area=4.0),  # no width
    box(3, 42, "person", [3, 3, 0.5, 10]),  # thinner than a pixel
    box(5, 42, "person", [3, 3, 10, 10], area=0),
    box(6, 42, "person", [3, 3, 10, 10], ignore=1),
    box(8, 42, "kite", [20.125, 8, 19.875, 22]),  # touches the border
    box(10, 11, "person", [2, 2, 6, 6], iscrowd=1, segmentation=CROWD),
]
IMAGES = {42: "deep/er/42.jpg", 7: "7.jpg", 900: "900.jpg", 11: "11.jpg"}
"""Files by image id: the ids are in no order, image 900 has no box, and 11 only a crowd."""


@pytest.fixture
def odd(tmp_path: Path) -> Dataset:
    """Write a data set of ``BOXES`` and ``IMAGES``; image 7 is gray, and image 900 is turned."""
    content = {
        "images": [
            {"id": identity, "file_name": name, "width": 40, "height": 30}
            for identity, name in IMAGES.items()
        ],
        "annotations": BOXES,
        "categories": [{"id": identity, "name": name} for name, identity in CATEGORY_IDS.items()],
    }
    rng = np.random.default_rng(0)
    for name in IMAGES.values():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        mode, exif = ("L" if name == "7.jpg" else "RGB"), Image.Exif()
        picture = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
        if name == "900.jpg":
            picture, exif[0x0112] = picture.transpose(Image.Transpose.ROTATE_90), 6
        picture.convert(mode).save(path, exif=exif)
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    split = {"annotations": "boxes.json", "images": "images"}
    values = {"format": "coco", "root": str(tmp_path), "train": split, "test": split}
    return Dataset.parse({**values, "classes": CLASSES, "image_size": [40, 30]}, "odd")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    entry = Dataset.read(REPOSITORY / "configs/datasets/coco2017.yaml")
    return write_stand_in("coco2017", entry, tmp_path_factory.mktemp("data") / "coco", longest=60)


def loaded(dataset: Dataset, split: str, base: bool = False, **options: Any) -> Any:
    """Return the loader of a split, or mmdet's class for it."""
    from mmdet.datasets import CocoDataset

    from kd.data.mmdet_datasets import CocoImages

    source = getattr(dataset, split)
    return (CocoDataset if base else CocoImages)(
        data_root=dataset.root,
        ann_file=source.annotations,
        data_prefix={"img": source.images},
        metainfo={"classes": dataset.classes},
        filter_cfg={"filter_empty_gt": split == "train", "min_size": 1},
        test_mode=split != "train",
        **{"pipeline": [], **options},
    )


def infos(loader: Any) -> list[dict[str, Any]]:
    """Return the records of a loader without masks, which box detectors do not use."""
    records = [loader.get_data_info(index) for index in range(len(loader))]
    for record in records:
        for instance in record["instances"]:
            instance.pop("mask", None)
    return records


# --- Loading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["odd", "stand_in"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_loader_equals_mmdets(
    fixture: str, split: str, request: pytest.FixtureRequest, quiet_mmdet: None
) -> None:
    dataset = request.getfixturevalue(fixture)
    expected = infos(loaded(dataset, split, base=True))
    assert len(expected) > 2
    assert infos(loaded(dataset, split)) == expected


def test_labels_crowds_and_images_are_those_of_the_records(odd: Dataset, quiet_mmdet: None) -> None:
    train = {info["img_id"]: info for info in infos(loaded(odd, "train"))}
    assert [*train] == [42, 7, 11]  # in the order of the file, without the image without boxes
    assert train[42]["instances"] == [
        {"ignore_flag": 0, "bbox": [5.5, 5.5, 15.25, 20.0], "bbox_label": 2},
        {"ignore_flag": 1, "bbox": [0.0, 0.0, 1.0, 30.0], "bbox_label": 1},
        {"ignore_flag": 0, "bbox": [20.125, 8.0, 40.0, 30.0], "bbox_label": 0},
    ]
    assert train[42]["img_path"] == f"{odd.root}/images/deep/er/42.jpg"
    test = {info["img_id"]: info["instances"] for info in infos(loaded(odd, "test"))}
    assert [*test] == [42, 7, 900, 11] and test[900] == []


def test_training_ignores_crowds(odd: Dataset, quiet_mmdet: None) -> None:
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    steps = ["LoadImageFromFile", "LoadAnnotations", "PackDetInputs"]
    pipeline = [{"type": steps[0]}, {"type": steps[1], "with_bbox": True}, {"type": steps[2]}]
    sample = loaded(odd, "train", pipeline=pipeline)[0]["data_samples"]
    assert sample.gt_instances.labels.tolist() == [2, 0]
    assert sample.ignored_instances.labels.tolist() == [1]
    assert sample.ignored_instances.bboxes.tensor.tolist() == [[0, 0, 1, 30]]


def test_gray_and_turned_photographs_have_three_channels_and_the_recorded_size(
    odd: Dataset, quiet_mmdet: None
) -> None:
    test = loaded(odd, "test", pipeline=[{"type": "LoadImageFromFile"}])
    pixels = {index: test[index]["img"] for index in range(4)}
    assert [image.shape for image in pixels.values()] == [(30, 40, 3)] * 4
    assert (pixels[1] == pixels[1][..., :1]).all() and not (pixels[0] == pixels[0][..., :1]).all()


def test_a_file_with_missing_keys_is_refused_with_the_name_of_the_key(
    odd: Dataset, quiet_mmdet: None
) -> None:
    path = Path(odd.root, "boxes.json")
    content = json.loads(path.read_text())
    del content["annotations"][0]["area"]
    path.write_text(json.dumps(content))
    with pytest.raises(KeyError, match="area"):
        loaded(odd, "train")


def test_records_elsewhere_in_a_file_are_no_annotations(odd: Dataset, quiet_mmdet: None) -> None:
    """Tools add lists, and keys of records, that are similar to annotations."""
    path = Path(odd.root, "boxes.json")
    before = infos(loaded(odd, "train"))
    content = json.loads(path.read_text())
    inner = box(77, 7, "dog", [1, 1, 9, 9])
    content["annotations"][0]["attributes"] = {"copied_from": inner}
    path.write_text(json.dumps({"predictions": [inner, inner], **content}))
    assert infos(loaded(odd, "train")) == before


# --- Check, fingerprint, evaluation ----------------------------------------------------------


def test_the_check_counts_what_the_loader_yields(odd: Dataset, quiet_mmdet: None) -> None:
    report = check("odd", odd.model_copy(update={"test": odd.train}))
    counts = report.splits["train"]
    assert (counts.images, counts.images_without_boxes, counts.loaded) == (4, 1, 3)
    assert (counts.crowd, counts.thin, counts.ignored, counts.left_out) == (2, 1, 1, 2)
    instances = [one for info in infos(loaded(odd, "train")) for one in info["instances"]]
    assert sum(not one["ignore_flag"] for one in instances) == counts.trainable == 3


def test_the_check_counts_the_stand_in_as_the_loader_does(
    stand_in: Dataset, quiet_mmdet: None
) -> None:
    report = check("coco2017", stand_in)
    assert report.usable
    records = infos(loaded(stand_in, "train"))
    instances = [one for info in records for one in info["instances"]]
    assert len(records) == report.splits["train"].loaded
    trainable = sum(not one["ignore_flag"] for one in instances)
    assert trainable == report.splits["train"].trainable


def test_a_file_of_many_images_is_decoded_once(
    stand_in: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    decode_file = image_files._decode_file
    monkeypatch.setattr(
        image_files, "_decode_file", lambda path: decoded.append(path) or decode_file(path)
    )
    folder = tmp_path / "linked"
    entry = stand_in.model_copy(update={"root": str(folder)})
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        name = f"annotations/instances_{split}2017.json"
        content = json.loads(Path(stand_in.root, name).read_text())
        (folder / name).write_text(json.dumps(content))
        (folder / f"{split}2017").mkdir()
        for image in content["images"]:
            image_file = f"{split}2017/{image['file_name']}"
            shape = f"{split}{image['width']}x{image['height']}"
            if not (tmp_path / shape).exists():
                (tmp_path / shape).write_bytes(Path(stand_in.root, image_file).read_bytes())
            os.link(tmp_path / shape, folder / image_file)
    assert check("linked", entry).usable
    assert len(decoded) == len([*tmp_path.glob("*x*")]) == 8


def test_the_fingerprint_follows_the_seed_and_not_the_folder(tmp_path: Path) -> None:
    entry = Dataset.read(REPOSITORY / "configs/datasets/coco2017.yaml")
    written = [
        write_stand_in("coco2017", entry, tmp_path / str(number), seed=seed, longest=4)
        for number, seed in enumerate((0, 0, 1))
    ]
    prints = [read_split(dataset, "train").fingerprint for dataset in written]
    assert prints[0] == prints[1] != prints[2]
    stamps = [stamp_of(written[0]), stamp_of(written[0]), stamp_of(written[1])]
    assert stamps[0] == stamps[1] != stamps[2]


def detections_of(content: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Return detections near most boxes, some of a wrong class, and some anywhere in a crowd."""
    rng = np.random.default_rng(seed)
    identities = [category["id"] for category in content["categories"]]
    detections = []
    for record in content["annotations"]:
        for _ in range(rng.integers(0, 3) + 3 * record["iscrowd"]):
            shift = rng.normal(0, 0.08, 4) * np.array(record["bbox"][2:] * 2)
            x, y, width, height = np.array(record["bbox"]) + shift
            wrong = rng.random() < 0.1
            detections.append(
                {
                    "image_id": record["image_id"],
                    "category_id": int(rng.choice(identities)) if wrong else record["category_id"],
                    "bbox": [float(x), float(y), max(float(width), 0.1), max(float(height), 0.1)],
                    "score": float(rng.random()),
                }
            )
    return detections


def test_ap_equals_that_of_pycocotools(stand_in: Dataset, tmp_path: Path) -> None:
    """Boxes without area are the one difference: pycocotools counts each as an object missed."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = json.loads(Path(stand_in.root, "annotations/instances_train2017.json").read_text())
    detections = detections_of(content, seed=1)
    boxes = content["annotations"]
    content["annotations"] = [one for one in boxes if min(one["bbox"][2:]) > 0]
    assert len(content["annotations"]) == len(boxes) - 1
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    reference = COCO(str(tmp_path / "boxes.json"))
    scored = COCOeval(reference, reference.loadRes([dict(one) for one in detections]), "bbox")
    for step in (scored.evaluate, scored.accumulate, scored.summarize):
        step()
    assert 0.1 < scored.stats[0] < 0.9
    values = metrics_of(detections, read_split(stand_in, "train").coco).model_dump()
    keys = ["AP", "AP50", "AP75", "APS", "APM", "APL"]
    keys += ["AR1", "AR10", "AR100", "ARS", "ARM", "ARL"]
    expected = dict(zip(keys, scored.stats.tolist(), strict=True))
    assert {key: values[key] for key in keys} == pytest.approx(expected, abs=1e-9)


def test_detections_in_a_crowd_are_no_mistakes(odd: Dataset) -> None:
    truth = read_split(odd, "test").coco
    perfect = [
        {key: record[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5}
        for record in truth["annotations"]
        if not record["iscrowd"] and record["id"] in (4, 8, 9)
    ]
    person = {"image_id": 11, "category_id": 1, "score": 0.9}
    inside = [{**person, "bbox": [3, 3, 2, 2]}, {**person, "bbox": [4, 4, 3, 3]}]
    outside = {**person, "bbox": [20, 20, 9, 9]}
    without = metrics_of(perfect, truth).model_dump()["AP"]
    assert metrics_of([*perfect, *inside], truth).model_dump()["AP"] == without
    assert metrics_of([*perfect, outside], truth).model_dump()["AP"] < without
