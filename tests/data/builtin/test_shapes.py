"""The built-in data set is reproducible, complete or absent, and matches its annotations."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.common.errors import UserError
from kd.data.builtin import shapes
from kd.data.builtin.drawing import CLASSES, LEAST_BOX, LEAST_VISIBLE, _coverage, _unit_outline
from kd.data.builtin.shapes import draw, generate, is_generated
from kd.data.entry import Dataset, Shapes, SplitName
from tests.support.paths import CONFIGS

SMALL = Shapes(train=6, test=26, size=64)
ENTRIES = CONFIGS / "datasets"


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "set"
    generate(SMALL, root)
    return root


@pytest.fixture(scope="module")
def scenes() -> list[shapes.ShapeScene]:
    settings = Shapes(train=400, test=1, size=128)
    return [draw(settings, "train", index) for index in range(150)]


def test_a_second_run_writes_the_same_bytes(generated: Path, tmp_path: Path) -> None:
    generate(SMALL, tmp_path / "again")
    assert digests(generated) == digests(tmp_path / "again")
    assert len(digests(generated)) == 6 + 26 + 2 + 2


def test_a_larger_set_begins_with_the_smaller(generated: Path, tmp_path: Path) -> None:
    generate(SMALL.model_copy(update={"train": 8}), tmp_path / "larger")
    small, large = digests(generated), digests(tmp_path / "larger")
    assert all(large[name] == small[name] for name in small if name.endswith(".png"))
    before = json.loads((generated / "annotations/train.json").read_text())
    after = json.loads((tmp_path / "larger/annotations/train.json").read_text())
    assert after["images"][:6] == before["images"]
    assert after["annotations"][: len(before["annotations"])] == before["annotations"]


def test_seed_split_and_index_change_the_image() -> None:
    images = [
        draw(SMALL, "train", 0),
        draw(SMALL, "train", 1),
        draw(SMALL, "test", 0),
        draw(SMALL.model_copy(update={"seed": 1}), "train", 0),
    ]
    assert len({scene.image.tobytes() for scene in images}) == 4


def test_annotations_are_coco(generated: Path) -> None:
    content = json.loads((generated / "annotations/train.json").read_text())
    assert [category["name"] for category in content["categories"]] == list(CLASSES)
    assert content["images"][0] == {"id": 1, "width": 64, "height": 64, "file_name": "000000.png"}
    assert [a["id"] for a in content["annotations"]] == list(
        range(1, len(content["annotations"]) + 1)
    )
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert x >= 0 and x + width <= 64 and y >= 0 and y + height <= 64
        assert min(width, height) >= LEAST_BOX and annotation["iscrowd"] == 0
        assert 0 < annotation["area"] <= width * height
        assert len(annotation["segmentation"][0]) >= 6
    with Image.open(generated / "train/000000.png") as image:
        assert image.size == (64, 64) and image.mode == "RGB"


def test_a_few_test_images_are_empty(generated: Path) -> None:
    content = json.loads((generated / "annotations/test.json").read_text())
    empty = {i["id"] for i in content["images"]} - {a["image_id"] for a in content["annotations"]}
    assert empty == {25}


def test_a_complete_set_is_not_written_again(generated: Path) -> None:
    image = generated / "train/000000.png"
    before = image.stat().st_mtime_ns
    generate(SMALL, generated)
    assert is_generated(SMALL, generated) and image.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [{"train": 5}, {"size": 48}, {"seed": 3}])
def test_a_changed_setting_generates_the_set_again(tmp_path: Path, change: dict[str, int]) -> None:
    small = Shapes(train=6, test=1, size=32)
    generate(small, tmp_path / "set")
    changed = small.model_copy(update=change)
    assert not is_generated(changed, tmp_path / "set")
    generate(changed, tmp_path / "set")
    assert is_generated(changed, tmp_path / "set")
    assert len(list((tmp_path / "set/train").iterdir())) == changed.train


def test_a_set_with_a_deleted_image_is_incomplete(tmp_path: Path) -> None:
    small = Shapes(train=2, test=1, size=32)
    generate(small, tmp_path / "set")
    (tmp_path / "set/train/000001.png").unlink()
    assert not is_generated(small, tmp_path / "set")
    generate(small, tmp_path / "set")
    assert is_generated(small, tmp_path / "set")


def test_a_set_whose_marker_was_deleted_is_generated_again(tmp_path: Path) -> None:
    """Snakemake deletes the declared output before it runs the rule, and after a failure."""
    small = Shapes(train=2, test=1, size=32)
    generate(small, tmp_path / "set")
    (tmp_path / "set" / shapes.MARKER).unlink()
    assert not is_generated(small, tmp_path / "set")
    generate(small, tmp_path / "set")
    assert is_generated(small, tmp_path / "set")


def test_an_interrupted_set_is_never_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shapes.draw

    def stopped(settings: Shapes, split: SplitName, index: int) -> shapes.ShapeScene:
        if split == "test" and index == 10:
            raise KeyboardInterrupt
        return real(settings, split, index)

    monkeypatch.setattr(shapes, "draw", stopped)
    with pytest.raises(KeyboardInterrupt):
        generate(SMALL, tmp_path / "set")
    assert not is_generated(SMALL, tmp_path / "set")
    assert not list((tmp_path / "set").rglob("*.json"))
    monkeypatch.undo()
    generate(SMALL, tmp_path / "set")
    assert is_generated(SMALL, tmp_path / "set")


def test_other_data_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="contains files that were not generated; set 'root'"):
        generate(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_root_that_is_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("")
    with pytest.raises(UserError, match="set: is a file, not a folder"):
        generate(SMALL, tmp_path / "set")


def test_boxes_are_tight_around_what_is_visible(scenes: list[shapes.ShapeScene]) -> None:
    for scene in scenes:
        for shape in scene.objects:
            x, y, width, height = shape.box()
            assert min(width, height) >= LEAST_BOX
            clear = shape.visible >= 0.5
            assert clear.sum() == clear[y : y + height, x : x + width].sum()
            inside = clear[y : y + height, x : x + width]
            assert inside[0].any() and inside[-1].any()
            assert inside[:, 0].any() and inside[:, -1].any()


def test_outlines_enclose_the_whole_object(scenes: list[shapes.ShapeScene]) -> None:
    for scene in scenes[:40]:
        for shape in scene.objects:
            whole = _coverage(128, shape.outline)
            assert (shape.visible <= whole + 1e-6).all()
            assert shape.visible.sum() >= LEAST_VISIBLE * whole.sum()


def test_a_polygon_covers_its_pixels() -> None:
    coverage = _coverage(64, [(10, 12), (30, 12), (30, 40), (10, 40)])
    assert coverage[12:40, 10:30].min() == 1.0
    assert coverage.sum() == pytest.approx(20 * 28, abs=0.25 * (20 + 28) + 1)


def test_classes_and_sizes_are_balanced(scenes: list[shapes.ShapeScene]) -> None:
    objects = [shape for scene in scenes for shape in scene.objects]
    counts = Counter(shape.label for shape in objects)
    mean = len(objects) / len(CLASSES)
    assert sorted(counts) == list(range(len(CLASSES)))
    assert all(0.6 * mean < count < 1.5 * mean for count in counts.values())
    sides = np.array([max(shape.box()[2:]) for shape in objects])
    assert 0.6 < np.mean((sides >= 14) & (sides <= 64)) < 0.95
    assert min(len(scene.objects) for scene in scenes) >= 1
    assert max(len(scene.objects) for scene in scenes) <= 8


def test_some_objects_are_partly_hidden(scenes: list[shapes.ShapeScene]) -> None:
    shares = [
        float(shape.visible.sum() / _coverage(128, shape.outline).sum())
        for scene in scenes[:60]
        for shape in scene.objects
    ]
    assert 0.1 < np.mean(np.array(shares) < 0.95) < 0.6


@pytest.mark.parametrize(
    ("name", "corners"),
    list(zip(CLASSES, [3, 4, 5, 6, 7, 10, 12, 12], strict=True)),
)
def test_every_class_has_its_corners(name: str, corners: int) -> None:
    assert len(set(_unit_outline(name))) == corners


@pytest.mark.parametrize("name", ["shapes-smoke", "shapes-mini"])
def test_entries_list_the_generated_classes(name: str) -> None:
    entry = Dataset.read(ENTRIES / f"{name}.yaml")
    assert entry.classes == list(CLASSES) and entry.generate is not None
    assert entry.image_size == (entry.generate.size, entry.generate.size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generate": {"train": 1, "test": 1, "size": 8}}, "generate.size.*greater than or equal"),
        ({"generate": {"train": 0, "test": 1, "size": 64}}, "generate.train.*greater than 0"),
        ({"generate": {"train": 1, "test": 1, "size": 64, "sede": 1}}, "did you mean 'seed'"),
        ({"generate": {"train": 1, "test": 1, "size": 64, "seed": -1}}, "generate.seed"),
        ({"train": {"annotations": "a.json", "images": "b"}}, "split 'train' of a generated data"),
        ({"classes": ["star", "star"]}, "'classes' must list at least one name"),
        ({"classes": []}, "'classes' must list at least one name"),
    ],
)
def test_wrong_entries_are_refused(change: dict[str, object], message: str) -> None:
    entry = Dataset.read(ENTRIES / "shapes-smoke.yaml").model_dump()
    with pytest.raises(UserError, match=f"smoke.yaml: .*{message}"):
        Dataset.parse({**entry, **change}, "smoke.yaml")
