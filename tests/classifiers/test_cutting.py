"""Object crops: selection of objects, their pixels, and reuse of existing crops."""

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from kd.classifiers import cutting
from kd.classifiers.cutting import build, choose, window
from kd.classifiers.pack import Pack
from kd.cli.main import main
from kd.common.errors import UserError
from kd.config.classifiers import crop_settings
from kd.config.library import Library
from kd.config.run import ClassifierRun, Crops
from kd.data.entry import Dataset
from kd.data.readers import GroundTruth
from tests.support import machine
from tests.support.paths import REPOSITORY
from tests.support.tiny import edit


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


# Selection of objects


def test_the_built_in_set_has_a_crop_of_every_object(cut: ClassifierRun) -> None:
    for split in ("train", "test"):
        content = json.loads(Path(f"data/shapes-tiny/annotations/{split}.json").read_text())
        labels = {category["id"]: i for i, category in enumerate(content["categories"])}
        counts = Counter(labels[one["category_id"]] for one in content["annotations"])
        pack = Pack(cut.crops.directory, split)
        assert Counter(pack.labels.tolist()) == counts
        assert pack.facts["crops"] == pack.facts["objects"] == len(pack) == counts.total()
        assert pack.facts["per_class"] == {
            name: counts[label] for label, name in enumerate(pack.classes)
        }
        assert not any(pack.facts["left_out"].values())


def truth(**marks: Any) -> GroundTruth:
    """Return an image of 40 x 30 pixels with a sound object and one with these marks."""
    sound = {"image_id": 7, "category_id": 3, "bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0}
    other = sound | {"category_id": 5} | marks
    coco = {
        "images": [{"id": 7, "width": 40, "height": 30, "file_name": "7.png"}],
        "annotations": [sound, other],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    return GroundTruth(coco, [], "")


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ({"iscrowd": 1}, "crowd"),
        ({"difficult": 1, "ignore": 1}, "difficult"),
        ({"ignore": 1}, "ignored"),
        ({"bbox": [2, 3, 30, 3.5]}, "small"),
        ({"bbox": [37, 3, 30, 20]}, "small"),
    ],
    ids=["crowd", "difficult", "ignored", "thin", "mostly outside"],
)
def test_an_object_that_is_left_out_is_counted(marks: dict, reason: str) -> None:
    objects, left_out = choose(truth(**marks), min_side=4)
    assert [one["label"] for one in objects] == [0]
    assert left_out == {"crowd": 0, "difficult": 0, "ignored": 0, "small": 0, reason: 1}


def test_a_box_that_sticks_out_is_clipped() -> None:
    objects, _ = choose(truth(bbox=[-5, 20, 25, 25]), min_side=4)
    assert objects[1] == {"image": 7, "label": 1, "bbox": (0, 20, 20, 30)}


# Pixels


@pytest.mark.parametrize(
    ("box", "margin", "pixels"),
    [
        ((40, 40, 60, 80), 0.25, (35, 30, 65, 90)),
        (
            (40, 40, 60, 80),
            0.0,
            (36, 36, 64, 84),
        ),  # the least margin, for sampling and random crops
        ((40.5, 40.2, 60.5, 70.2), 0.25, (35, 32, 66, 78)),
        ((2, 1, 22, 41), 0.25, (0, 0, 27, 51)),
        ((80, 70, 100, 90), 0.5, (70, 60, 100, 90)),
    ],
    ids=["margin", "least margin", "fractions", "top left", "bottom right"],
)
def test_the_window_has_a_margin_within_the_image(box: Any, margin: float, pixels: Any) -> None:
    assert window(box, margin, width=100, height=90) == pixels


def sources(name: str, split: str, pack: Pack) -> Any:
    """Yield (crop, its window in the image, box) of every crop, from the images themselves."""
    dataset = Library().dataset(name, "tests")
    coco = cutting.read_split(dataset, split).coco
    images = {one["id"]: one for one in coco["images"]}
    boxes: dict[int, list[Any]] = {}
    for one in coco["annotations"]:
        boxes.setdefault(one["image_id"], []).append(one["bbox"])
    for index, image in enumerate(pack.images.tolist()):
        x, y, w, h = boxes[image].pop(0)
        path = cutting.image_path(dataset, split, images[image])
        with Image.open(path) as file:
            pixels = np.array(file.convert("RGB"))
        height, width = pixels.shape[:2]
        box = np.array([max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)])
        left, top, right, bottom = window(tuple(box), 0.25, width, height)
        yield pack.pixels(index), pixels[top:bottom, left:right], box - [left, top, left, top]


def test_pixels_and_boxes_are_those_of_the_image(cut: ClassifierRun) -> None:
    pack = Pack(cut.crops.directory, "test")
    crops = list(sources("shapes-tiny", "test", pack))
    assert len(crops) == len(pack) > 10
    for index, (crop, source, box) in enumerate(crops):
        assert np.array_equal(crop, source)
        assert pack.boxes[index] == pytest.approx(box)


def test_crops_of_a_data_set_in_voc_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bccd = machine.bccd()
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bccd").symlink_to(bccd)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cutting, "SPLITS", ("test",))
    dataset = Library().dataset("bccd", "tests")
    settings = crop_settings("bccd", dataset, margin=0.25, min_side=30)
    facts = build(Crops(settings), Library())["test"]

    counts, small = Counter(), 0
    for name in (bccd / "ImageSets" / "Main" / "test.txt").read_text().split():
        for one in ElementTree.parse(bccd / "Annotations" / f"{name}.xml").iter("object"):
            x1, y1, x2, y2 = (int(one.find(f"bndbox/{k}").text) for k in CORNERS)
            if min(x2, 640) - max(x1, 1) < 30 or min(y2, 480) - max(y1, 1) < 30:
                small += x2 > x1 and y2 > y1
            else:
                counts[one.findtext("name")] += 1
    assert facts["classes"] == ["Platelets", "RBC", "WBC"]
    assert facts["per_class"] == counts
    assert facts["left_out"] == {"crowd": 0, "difficult": 0, "ignored": 0, "small": small}
    assert small

    pack = Pack(Crops(settings).directory, "test")
    split = cutting.read_split(dataset, "test")
    images = {one["id"]: one for one in split.coco["images"]}
    for index, one in enumerate(choose(split, 30)[0][:20]):
        with Image.open(cutting.image_path(dataset, "test", images[one["image"]])) as file:
            source = np.array(file.convert("RGB").crop(window(one["bbox"], 0.25, *file.size)))
        # A JPEG of quality 95 loses a little of the JPEG that it is cut from.
        assert abs(pack.pixels(index).astype(int) - source).mean() < 2


def test_crops_have_the_pixels_that_detectors_see(tmp_path: Path) -> None:
    """A rotated 16-bit image is decoded as for detectors; Pillow alone returns nearly white."""
    from kd.data import decoding

    values = np.random.default_rng(0).integers(0, 2**16, (30, 40), np.uint16)
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    path = tmp_path / "one.png"
    Image.fromarray(values).save(path, exif=exif)
    job = cutting.Job(path, 1, [{"label": 0, "bbox": (0, 0, 30, 40)}])
    (crop,) = cutting._cut(job, 0.0)
    with Image.open(io.BytesIO(crop.data)) as image:
        assert np.array_equal(np.asarray(image), decoding.load(path))
    assert image.size == (30, 40)


CORNERS = ("xmin", "ymin", "xmax", "ymax")


# Reuse


def test_crops_that_exist_are_not_cut_again(cut: ClassifierRun) -> None:
    before = stamps(cut.crops.directory)
    assert {"crops.json", "train.bin", "train.npz", "train.json"} < before.keys()
    facts = build(cut.crops, Library())
    assert stamps(cut.crops.directory) == before
    assert facts["train"]["crops"] == len(Pack(cut.crops.directory, "train"))


@pytest.mark.parametrize("file", ["test.json", "test.npz", "test.bin"])
def test_a_split_that_is_not_complete_is_cut_again(cut: ClassifierRun, file: str) -> None:
    before = stamps(cut.crops.directory)
    (cut.crops.directory / file).unlink()
    with pytest.raises(UserError, match=f"make them: kd crops {cut.crops.directory}"):
        Pack(cut.crops.directory, "test")
    build(cut.crops, Library())
    after = stamps(cut.crops.directory)
    assert before.keys() == after.keys()
    assert all(after[name] == before[name] for name in before if not name.startswith("test"))
    assert len(Pack(cut.crops.directory, "test"))


def test_other_settings_are_other_crops(compose: Callable[..., ClassifierRun]) -> None:
    default = compose().crops.directory
    assert default == compose(loss="focal", architecture="resnet34").crops.directory
    assert len({default, *(compose(**c).crops.directory for c in CHANGES)}) == 1 + len(CHANGES)


CHANGES: list[dict[str, Any]] = [{"margin": 0.5}, {"min_side": 5}]


def test_changed_images_are_cut_again(cut: ClassifierRun) -> None:
    pack = Pack(cut.crops.directory, "test")
    before, pixels = pack.facts["fingerprint"], pack.pixels(0)
    path = min(Path("data/shapes-tiny/test").glob("*.png"))
    content = path.read_bytes()
    try:
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_180).save(path)
        build(cut.crops, Library())
        changed = Pack(cut.crops.directory, "test")
        assert changed.facts["fingerprint"] != before
        assert not np.array_equal(changed.pixels(0), pixels)
    finally:
        path.write_bytes(content)
        build(cut.crops, Library())
    assert np.array_equal(Pack(cut.crops.directory, "test").pixels(0), pixels)


def test_crops_of_another_entry_are_refused(
    cut: ClassifierRun, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = Path("configs/datasets/shapes-tiny.yaml")
    content = entry.read_text()
    try:
        edit(entry, fetch="from somewhere", image_size=[32, 32])  # changes no crop
        assert main(["crops", str(cut.crops.directory)]) == 0
        edit(entry, classes=["triangle", "square"])
        assert main(["crops", str(cut.crops.directory)]) == 2
    finally:
        entry.write_text(content)
    output, errors = capsys.readouterr()
    assert f"{len(Pack(cut.crops.directory, 'train'))} crops of" in output
    assert "configs/datasets/shapes-tiny.yaml changed since these crops were composed" in errors


def test_a_split_without_objects_is_one_clear_error(compose: Callable[..., ClassifierRun]) -> None:
    with pytest.raises(UserError, match=r"no object .*'train' remains; left out: \d+ small"):
        build(compose(min_side=1000).crops, Library())


def test_a_folder_that_is_neither_crops_nor_a_run_is_refused(project: Path) -> None:
    (project / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty/config.json: no such file"):
        Crops.read(Path("empty"))
    Path("empty/config.json").write_text('{"model": {}}')
    with pytest.raises(UserError, match="empty: contains neither crops nor a run of a classifier"):
        Crops.read(Path("empty"))


def test_crops_are_read_from_a_run_and_from_their_folder(cut: ClassifierRun) -> None:
    assert Crops.read(cut.directory) == Crops.read(cut.crops.directory) == cut.crops


def test_a_voc_entry_makes_settings_that_are_plain_data() -> None:
    entry = {
        "format": "voc", "root": "data/x", "train": ["a"], "test": ["b"], "image_size": [9, 9],
    }  # fmt: skip
    settings = crop_settings("x", Dataset.parse(entry, "x"), 0.25, 1)
    assert json.loads(json.dumps(settings)) == settings
