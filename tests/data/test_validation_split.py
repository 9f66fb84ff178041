"""The optional validation split: entries, check, fingerprints and drawn images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from kd.common.errors import UserError
from kd.data.builtin.shapes import draw, generate, is_generated
from kd.data.check import check
from kd.data.check_report import read_report
from kd.data.entry import Dataset, Shapes
from kd.data.fingerprint import content_of, fingerprints, stamp_of
from tests.support.paths import REPOSITORY

VAL = {"annotations": "annotations/val.json", "images": "val"}


def with_val(dataset: Dataset, val: Any) -> Dataset:
    return Dataset.parse({**dataset.model_dump(), "val": val}, "entry")


@pytest.fixture
def coco_val(coco: Dataset, tmp_path: Path) -> Dataset:
    """Add a validation split of two images to the COCO data set."""
    content = json.loads((tmp_path / "annotations/test.json").read_text())
    (tmp_path / "annotations/val.json").write_text(json.dumps(content))
    (tmp_path / "val").mkdir()
    for number, image in enumerate(content["images"]):
        pixels = np.full((image["height"], image["width"], 3), 50 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "val" / image["file_name"])
    return with_val(coco, VAL)


@pytest.fixture
def voc_val(voc: Dataset, tmp_path: Path) -> Dataset:
    """Hold out image a2 of the VOC data set."""
    (tmp_path / "A/ImageSets/Main/kept.txt").write_text("a1\n")
    (tmp_path / "A/ImageSets/Main/held.txt").write_text("a2\n")
    return with_val(voc, ["A/held"]).model_copy(update={"train": ["A/kept", "B/trainval"]})


def shapes(**settings: int) -> Dataset:
    entry = yaml.safe_load((REPOSITORY / "configs/datasets/shapes-smoke.yaml").read_text())
    val = {"val": VAL} if "val" in settings else {}
    generate = {"train": 3, "test": 2, "size": 48, **settings}
    return Dataset.parse({**entry, "root": "data/shapes", "generate": generate, **val}, "shapes")


def test_an_entry_without_the_split_is_the_plain_data_that_it_was() -> None:
    entry = shapes()
    assert "val" not in entry.model_dump() and "val" not in entry.model_dump_json()
    assert entry.generate is not None
    assert entry.generate.model_dump() == {"train": 3, "test": 2, "size": 48, "seed": 0}
    assert (entry.splits, entry.early_split) == (("train", "test"), "test")


def test_the_check_counts_the_split(coco_val: Dataset, voc_val: Dataset, tmp_path: Path) -> None:
    for dataset, images in ((coco_val, 2), (voc_val, 1)):
        report = check("mine", dataset)
        assert report.usable and not report.notes, report.describe()
        assert report.splits["val"].images == report.splits["val"].loaded == images
        (tmp_path / "mine.json").write_text(json.dumps(report.to_json()))
        assert read_report(tmp_path / "mine.json").splits["val"].images == images


def test_a_shared_file_is_an_error_with_its_name(voc_val: Dataset, tmp_path: Path) -> None:
    for split, title in (("kept", "training"), ("test", "test")):
        listing = tmp_path / f"A/ImageSets/Main/{split}.txt"
        text = listing.read_text()
        listing.write_text(f"{text}a2\n")
        problems = [str(problem) for problem in check("voc", voc_val).errors]
        assert len(problems) == 1 and "a2.jpg: this " in problems[0] and title in problems[0]
        listing.write_text(text)


def test_a_copy_of_a_training_image_is_an_error(coco_val: Dataset, tmp_path: Path) -> None:
    (tmp_path / "val/1.png").write_bytes((tmp_path / "train/2.png").read_bytes())
    (problem,) = check("coco", coco_val).errors
    assert str(problem).endswith(
        "val/1.png: this validation image is in the training split as "
        f"{tmp_path}/train/2.png; remove one of the two"
    )


def test_an_absent_list_is_an_error(voc_val: Dataset, tmp_path: Path) -> None:
    (tmp_path / "A/ImageSets/Main/held.txt").unlink()
    assert not voc_val.is_present()
    assert any("held.txt: no such image set" in str(one) for one in check("v", voc_val).errors)


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_the_split_adds_a_fingerprint_and_changes_no_other(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = request.getfixturevalue(f"{kind}_val")
    without = dataset.model_copy(update={"val": None})
    monkeypatch.chdir(tmp_path)
    before = fingerprints("mine", without)
    after = fingerprints("mine", dataset)
    assert before == {split: after[split] for split in ("train", "test")}
    assert len({*after.values()}) == 3
    assert fingerprints("mine", dataset) == after  # from the cache
    assert content_of("mine", dataset).endswith(f" val {after['val']}")
    assert stamp_of(without) != stamp_of(dataset)
    assert check("mine", without).fingerprint != check("mine", dataset).fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": ["trainval"]}, "split 'val' of a coco data set must be"),
        ({"val": {"annotations": "a.json"}}, "'val.images'"),
        ({"val": VAL, "generate": {"train": 3, "test": 2, "size": 48}}, "'val' in its 'generate'"),
        ({"generate": {"train": 3, "test": 2, "val": 2, "size": 48}}, "add key 'val'"),
        ({"generate": {"train": 3, "test": 2, "val": 0, "size": 48}, "val": VAL}, "generate.val"),
    ],
)
def test_a_wrong_split_is_an_error(change: dict[str, Any], message: str) -> None:
    entry = shapes().model_dump(exclude={"generate"})
    with pytest.raises(UserError, match=message):
        Dataset.parse({**entry, **change}, "configs/datasets/mine.yaml")


def test_drawn_validation_images_are_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = shapes(val=2)
    assert dataset.generate is not None
    generate(dataset.generate, Path(dataset.root))
    assert is_generated(dataset.generate, Path(dataset.root))
    report = check("shapes", dataset)
    assert report.usable and report.splits["val"].images == 2
    without = shapes()
    assert without.generate is not None and not is_generated(without.generate, Path(dataset.root))


def test_another_test_seed_draws_other_test_images_alone() -> None:
    usual = Shapes(train=3, test=2, val=2, size=48)
    fresh = Shapes(train=3, test=2, val=2, size=48, test_seed=1)
    for split in ("train", "test", "val"):
        same = draw(usual, split, 0).image.tobytes() == draw(fresh, split, 0).image.tobytes()
        assert same == (split != "test")
