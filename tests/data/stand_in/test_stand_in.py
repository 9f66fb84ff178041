"""Stand-in data have the format, layout and statistics of the data set that they replace."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as masks

from kd.common.errors import UserError
from kd.data.check import check
from kd.data.entry import Dataset
from kd.data.stand_in import writing
from kd.data.stand_in.coco_files import write_annotations
from kd.data.stand_in.scenes import draw_scenes
from kd.data.stand_in.statistics import COCO, COCO_CLASSES, VOC, VOC_CLASSES
from kd.data.stand_in.writing import read_marker, write_stand_in
from tests.support.paths import REPOSITORY

LONGEST = 24


def entry(name: str) -> Dataset:
    return Dataset.read(REPOSITORY / f"configs/datasets/{name}.yaml")


@pytest.fixture(scope="module")
def coco_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("coco") / "coco2017"
    return write_stand_in("coco2017", entry("coco2017"), folder, longest=LONGEST)


@pytest.fixture(scope="module")
def voc_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("voc") / "voc0712"
    return write_stand_in("voc0712", entry("voc0712"), folder, longest=LONGEST)


def content_of(dataset: Dataset, split: str = "train") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        Path(dataset.root, getattr(dataset, split).annotations).read_text()
    )
    return content


def files_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file by its path in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- Format ----------------------------------------------------------------------------------


def test_only_the_root_of_the_entry_changes(coco_stand_in: Dataset) -> None:
    assert coco_stand_in.model_copy(update={"root": "data/coco"}) == entry("coco2017")


def test_coco_has_its_ids_and_names(coco_stand_in: Dataset) -> None:
    content = content_of(coco_stand_in)
    ids = {category["name"]: category["id"] for category in content["categories"]}
    assert len(ids) == 80 and list(ids) == entry("coco2017").classes
    assert {*range(1, 91)} - {*ids.values()} == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert (ids["person"], ids["stop sign"], ids["toothbrush"]) == (1, 13, 90)
    order = [image["id"] for image in content["images"]]
    assert order != sorted(order) and len({*order}) == LONGEST
    assert all(image["file_name"] == f"{image['id']:012d}.jpg" for image in content["images"])
    owners = [box["image_id"] for box in content["annotations"]]
    assert owners != sorted(owners)


@pytest.mark.parametrize("fixture", ["coco_stand_in", "voc_stand_in"])
def test_the_check_accepts_the_data(fixture: str, request: pytest.FixtureRequest) -> None:
    dataset = request.getfixturevalue(fixture)
    report = check("name", dataset)
    marker = read_marker(Path(dataset.root))
    assert report.errors == []
    assert sum(split.images for split in report.splits.values()) == marker["images"]
    boxes = sum(split.boxes + split.left_out for split in report.splits.values())
    assert boxes == marker["boxes"]


def test_splits_share_no_image(coco_stand_in: Dataset) -> None:
    train, test = (content_of(coco_stand_in, split)["images"] for split in ("train", "test"))
    assert not {image["id"] for image in train} & {image["id"] for image in test}


def test_images_have_the_recorded_size_and_one_is_gray(coco_stand_in: Dataset) -> None:
    modes = set()
    for image in content_of(coco_stand_in)["images"]:
        path = Path(coco_stand_in.root, "train2017", image["file_name"])
        with Image.open(path) as picture:
            assert picture.size == (image["width"], image["height"])
            modes.add(picture.mode)
        assert 40_000 < os.path.getsize(path) < 200_000
    assert modes == {"RGB", "L"}


def test_masks_of_crowds_are_rle_with_the_area_and_the_box(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([[640, 480], [480, 640], [40, 3]])
    scenes = draw_scenes(rng, 400, COCO, sizes, [weight for _, weight in COCO_CLASSES.values()])
    path = tmp_path / "train.json"
    write_annotations(path, COCO_CLASSES, scenes, np.arange(400) + 7, rng)
    content = json.loads(path.read_text())
    images = {image["id"]: image for image in content["images"]}
    crowds = [box for box in content["annotations"] if box["iscrowd"]]
    assert len(crowds) > 20
    for box in crowds:
        image, mask = images[box["image_id"]], box["segmentation"]
        assert mask["size"] == [image["height"], image["width"]]
        encoded = masks.frPyObjects(mask, *mask["size"])
        assert masks.area(encoded) == box["area"]
        # A mask has whole pixels, so it may differ from the box by a pixel on each side.
        np.testing.assert_allclose(masks.toBbox(encoded), box["bbox"], atol=2)


def test_voc_has_difficult_objects_and_the_years(voc_stand_in: Dataset) -> None:
    root = Path(voc_stand_in.root)
    assert len((root / "VOC2007/ImageSets/Main/trainval.txt").read_text().split()) == LONGEST
    assert (root / "VOC2012/ImageSets/Main/trainval.txt").read_text().startswith("2008_")
    report = check("voc0712", voc_stand_in)
    assert 0.05 < report.splits["train"].difficult / report.splits["train"].boxes < 0.3
    assert all(report.splits["train"].boxes_per_class.values())


def test_other_classes_have_ids_with_gaps(tmp_path: Path) -> None:
    mine = entry("example").model_copy(update={"classes": ["cat", "dög", "x < y", "d"]})
    dataset = write_stand_in("mine", mine, tmp_path / "mine", longest=8)
    assert [category["id"] for category in content_of(dataset)["categories"]] == [1, 2, 4, 5]
    assert check("mine", dataset).errors == []
    voc = Dataset.parse(
        {**mine.model_dump(), "format": "voc", "train": ["trainval"], "test": ["test"]}, "mine"
    )
    dataset = write_stand_in("mine-voc", voc, tmp_path / "voc", longest=8)
    assert (tmp_path / "voc/ImageSets/Main/test.txt").is_file()
    assert check("mine-voc", dataset).errors == []


def test_a_subset_of_cocos_classes_is_in_a_file_of_all(tmp_path: Path) -> None:
    dataset = write_stand_in("p", entry("coco2017-person"), tmp_path / "p", longest=16)
    assert len(content_of(dataset)["categories"]) == 80
    counts = check("p", dataset).splits["train"]
    assert 0 < counts.loaded < counts.images == 16


# --- Statistics ------------------------------------------------------------------------------


def test_coco_has_its_published_statistics() -> None:
    """COCO: 7.3 boxes per image, 41 % small and 24 % large, 30 % persons, 1.2 % crowds."""
    sizes = np.array(COCO.sides)
    weights = [weight for _, weight in COCO_CLASSES.values()]
    scenes = draw_scenes(np.random.default_rng(0), 20_000, COCO, sizes, weights)
    counts = np.bincount(scenes.owners, minlength=20_000)
    assert counts.mean() == pytest.approx(7.3, abs=0.3) and counts.max() > 60
    assert (counts == 0).sum() == round(20_000 * 1_021 / 118_287)
    assert (scenes.areas < 32**2).mean() == pytest.approx(0.41, abs=0.02)
    assert (scenes.areas >= 96**2).mean() == pytest.approx(0.24, abs=0.02)
    shares = np.bincount(scenes.labels, minlength=80) / len(scenes.labels)
    assert shares[0] == pytest.approx(0.30, abs=0.02) and shares.min() > 0
    assert scenes.crowds.mean() == pytest.approx(0.012, abs=0.002)
    sides = scenes.sides[scenes.owners]
    ends = scenes.boxes[:, :2] + scenes.boxes[:, 2:]
    assert (scenes.boxes >= 0).all() and (ends <= sides + 1e-6).all()
    assert 0.02 < (ends == sides).any(axis=1).mean() < 0.2
    assert (scenes.boxes[:, 2:] == 0).any() and (scenes.boxes[:, 2:] == 0.4).any()
    assert (scenes.boxes % 1 != 0).any(axis=1).mean() > 0.9


def test_voc_has_its_published_statistics() -> None:
    """VOC 07+12: 2.4 objects per image that are not difficult."""
    sizes = np.array(VOC.sides)
    scenes = draw_scenes(np.random.default_rng(0), 16_551, VOC, sizes, [*VOC_CLASSES.values()])
    assert (~scenes.difficult).sum() / 16_551 == pytest.approx(2.4, abs=0.1)


# --- Writing ---------------------------------------------------------------------------------


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    digests = [
        files_of(
            Path(
                write_stand_in(
                    "coco2017", entry("coco2017"), tmp_path / name, seed=seed, longest=3
                ).root
            )
        )
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert digests[0] == digests[1]
    assert not {*digests[0].values()} & {*digests[2].values()}


def test_a_complete_stand_in_is_not_written_again(
    coco_stand_in: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_write", None)
    root = Path(coco_stand_in.root)
    again = write_stand_in("coco2017", entry("coco2017"), root, longest=LONGEST)
    assert again == coco_stand_in


def test_of_two_writers_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    write = writing._write

    def count(name: str, stand_in: Dataset, folder: Path, settings: dict[str, Any]) -> None:
        calls.append(folder)
        write(name, stand_in, folder, settings)

    monkeypatch.setattr(writing, "_write", count)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(write_stand_in, "coco2017", entry("coco2017"), tmp_path / "c", longest=3)
            for _ in range(2)
        ]
    assert jobs[0].result() == jobs[1].result() and len(calls) == 1


def test_an_interrupted_stand_in_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "coco"
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_json", None)  # the marker is written last
        with pytest.raises(TypeError):
            write_stand_in("coco2017", entry("coco2017"), folder, longest=3)
    assert not folder.exists()
    write_stand_in("coco2017", entry("coco2017"), folder, longest=3)
    uninterrupted = tmp_path / "other"
    write_stand_in("coco2017", entry("coco2017"), uninterrupted, longest=3)
    assert files_of(folder) == files_of(uninterrupted)


def test_other_settings_replace_a_stand_in(tmp_path: Path) -> None:
    for longest in (2, 3):
        write_stand_in("coco2017", entry("coco2017"), tmp_path / "coco", longest=longest)
        assert read_marker(tmp_path / "coco")["images"] == 2 * longest
    assert len([*(tmp_path / "coco/train2017").iterdir()]) == 3


def test_a_marker_states_the_published_lengths(tmp_path: Path) -> None:
    lengths = {source.name: source.length for source in writing._sources(entry("coco2017"), None)}
    assert [*lengths.values()] == [118_287, 5_000]
    lengths = {source.name: source.length for source in writing._sources(entry("voc0712"), None)}
    assert sum(lengths.values()) == 16_551 + 4_952
    lengths = {source.name: source.length for source in writing._sources(entry("bccd-val"), None)}
    assert [*lengths.values()] == [300, 300, 300]


# --- Errors ----------------------------------------------------------------------------------


def test_files_of_a_user_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/photo.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="contains files that are not a stand-in; move them"):
        write_stand_in("coco2017", entry("coco2017"), tmp_path / "coco", longest=3)
    assert (tmp_path / "coco/photo.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("images", ["/data/coco/train2017", "../coco/train2017"])
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, images: str) -> None:
    mine = entry("example").model_dump()
    mine["train"]["images"] = images
    with pytest.raises(UserError, match=f"mine.yaml: '{images}' leads out of the data set's"):
        write_stand_in("mine", Dataset.parse(mine, "mine"), tmp_path / "mine", longest=3)
    assert [*tmp_path.iterdir()] == []


def test_an_entry_without_classes_is_refused(tmp_path: Path) -> None:
    mine = entry("example").model_copy(update={"classes": None})
    with pytest.raises(UserError, match=r"mine.yaml: key 'classes' is missing"):
        write_stand_in("mine", mine, tmp_path / "mine")
