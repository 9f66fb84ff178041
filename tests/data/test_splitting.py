"""``kd split``: the choice of images, the files of both parts, and what is refused."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.cli.main import main
from kd.common.errors import UserError
from kd.data.check import check
from kd.data.entry import Dataset
from kd.data.splitting import divide, write
from kd.data.stratify import held_out


def random_labels(count: int) -> tuple[list[str], list[set[str]]]:
    """Return images of nine classes whose frequencies differ by a factor of a hundred."""
    rng = random.Random(0)
    shares = {f"class {i}": 0.5 / 1.8**i for i in range(9)}
    labels = [
        {name for name, share in shares.items() if rng.random() < share} or {""}
        for _ in range(count)
    ]
    return [f"{i}.jpg" for i in range(count)], labels


@pytest.mark.parametrize("share", [0.04, 0.1, 0.5])
def test_every_class_is_divided_alike(share: float) -> None:
    keys, labels = random_labels(2000)
    positions = held_out(keys, labels, share, seed=0)
    assert len(positions) == pytest.approx(share * len(keys), abs=0.01 * len(keys))
    totals = Counter(label for of_image in labels for label in of_image)
    held = Counter(label for index in positions for label in labels[index])
    for label, count in totals.items():
        assert abs(held[label] - share * count) <= 2, label


def test_the_choice_depends_on_names_and_seed_and_not_on_the_order() -> None:
    keys, labels = random_labels(300)
    positions = {keys[index] for index in held_out(keys, labels, 0.1, seed=0)}
    order = random.Random(1).sample(range(300), 300)
    shuffled = [keys[index] for index in order]
    again = held_out(shuffled, [labels[index] for index in order], 0.1, seed=0)
    assert {shuffled[index] for index in again} == positions
    assert {keys[index] for index in held_out(keys, labels, 0.1, seed=1)} != positions


def test_a_rare_class_is_in_both_parts_and_a_single_image_is_kept() -> None:
    labels = [{"common"} for _ in range(50)] + [{"rare"}, {"rare"}, {"single", "common"}]
    for seed in range(20):
        positions = held_out([str(i) for i in range(53)], labels, 0.05, seed)
        assert len(positions & {50, 51}) == 1 and 52 not in positions


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_no_part_is_empty(share: float) -> None:
    for labels in ([{"a"}, {"b"}], [{"a"}, {"a"}], [{"a"}, {"a", "b"}, {"c"}]):
        positions = held_out([str(i) for i in range(len(labels))], labels, share, 0)
        assert 0 < len(positions) < len(labels)


def test_the_parts_of_coco_files_are_a_valid_data_set(coco: Dataset, tmp_path: Path) -> None:
    source = json.loads((tmp_path / "annotations/train.json").read_text())
    source["info"] = {"description": "mine"}
    (tmp_path / "annotations/train.json").write_text(json.dumps(source))
    division = divide("mine", coco, 0.3, 0)
    assert division.images == {"train": 2, "val": 1}
    assert division.images_per_class == {
        "cat": {"train": 2, "val": 1},
        "dog": {"train": 2, "val": 1},
    }
    assert {path.name for path in write(division)} == {"train_minus_val.json", "train_val.json"}
    parts = [json.loads(path.read_text()) for path in division.files]
    assert [len(part["annotations"]) for part in parts] == [4, 2]
    assert all(part["info"] == source["info"] for part in parts)
    changed = coco.model_dump() | yaml.safe_load(division.lines)
    report = check("mine", Dataset.parse(changed, "mine"))
    assert report.usable and report.splits["val"].images == 1, report.describe()
    assert write(division) == []


def test_the_parts_of_image_sets_are_a_valid_data_set(voc: Dataset, tmp_path: Path) -> None:
    entry = voc.model_copy(update={"classes": None})
    division = divide("mine", entry, 0.4, 0)
    write(division)
    lines = yaml.safe_load(division.lines)
    assert lines["classes"] == ["cat", "dog"]
    changed = Dataset.parse(entry.model_dump() | lines, "mine")
    report = check("mine", changed)
    assert report.usable, report.describe()
    assert (report.splits["train"].images, report.splits["val"].images) == (2, 1)
    # A set with all its images in one part has no file for the other.
    assert len(changed.listings("train")) + len(changed.listings("val")) == len(division.files)
    assert all(path.read_text().strip() for path in division.files)


def test_copies_of_an_image_stay_together(coco: Dataset, tmp_path: Path) -> None:
    (tmp_path / "train/1.png").write_bytes((tmp_path / "train/3.png").read_bytes())
    for seed in range(5):
        write_path = tmp_path / "annotations/train_val.json"
        held = json.loads(divide("mine", coco, 0.3, seed).files[write_path])
        names = {image["file_name"] for image in held["images"]}
        assert names in ({"2.png"}, {"1.png", "3.png"})


def test_no_file_is_overwritten(voc: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "A/ImageSets/Main/trainval_minus_val.txt"
    path.write_text("mine\n")
    others = {*tmp_path.rglob("*.txt")}
    divisions = [divide("mine", voc, 0.4, seed) for seed in range(8)]
    division = next(one for one in divisions if path in one.files)
    with pytest.raises(UserError, match=r"trainval_minus_val\.txt: exists with other content"):
        write(division)
    assert path.read_text() == "mine\n" and {*tmp_path.rglob("*.txt")} == others


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: {**entry, "val": entry["test"]}, "has a validation split already"),
        (lambda entry: {**entry, "root": "none"}, "no annotation file"),
    ],
)
def test_what_cannot_be_divided_is_an_error(coco: Dataset, change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        divide("mine", Dataset.parse(change(coco.model_dump()), "mine"), 0.1, 0)


def test_one_image_is_too_few(coco: Dataset, tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / "train" / name).write_bytes((tmp_path / "train/3.png").read_bytes())
    with pytest.raises(UserError, match="too few different images"):
        divide("mine", coco, 0.5, 0)


def test_the_command_prints_lines_for_the_entry_and_edits_nothing(
    voc: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "configs/datasets").mkdir(parents=True)
    (tmp_path / "configs/default.yaml").write_text("{}\n")
    entry = tmp_path / "configs/datasets/mine.yaml"
    entry.write_text(yaml.safe_dump(voc.model_dump(mode="json") | {"root": "."}))
    text = entry.read_text()
    monkeypatch.chdir(tmp_path)
    assert main(["split", "mine", "--share", "0.4"]) == 0
    output = capsys.readouterr().out
    assert "Wrote A/ImageSets/Main/trainval" in output and "mine-minus-val.yaml" in output
    lines = yaml.safe_load(output.rpartition("\n\n")[2])
    assert lines.keys() == {"train", "val"}
    assert entry.read_text() == text
    assert main(["split", "mine", "--share", "0.4"]) == 0
    assert "Wrote" not in capsys.readouterr().out
