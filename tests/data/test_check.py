"""The check of a data set reports every type of damage and never ends with a traceback."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kd.data.builtin.shapes import generate
from kd.data.check import Report, check
from kd.data.entry import Dataset
from tests.support.paths import REPOSITORY

Edit = Callable[[Callable[[dict[str, Any]], Any]], None]


def errors(report: Report) -> str:
    return "\n".join(map(str, report.errors))


def test_a_valid_data_set_has_no_errors(coco: Dataset, voc: Dataset, tmp_path: Path) -> None:
    for name, dataset in (("coco", coco), ("voc", voc)):
        report = check(name, dataset)
        assert report.usable and not report.errors and not report.dirt and not report.notes
    assert report.splits["train"].images == 3 and report.splits["test"].boxes == 2
    assert report.splits["train"].boxes_per_class == {"cat": 3, "dog": 3}
    assert (report.splits["train"].small, report.splits["train"].medium) == (3, 3)
    assert list(tmp_path.rglob("*.tmp")) == []


def test_the_report_can_be_written_as_json(coco: Dataset) -> None:
    report = check("mine", coco)
    values = json.loads(json.dumps(report.to_json()))
    assert values["usable"] is True and values["errors"] == []
    assert values["splits"]["train"]["boxes"] == 6
    assert values["fingerprint"] == check("mine", coco).fingerprint


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def turn(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)


BAD_IMAGES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path.unlink(), "2.png: no such image"),
    (lambda path: path.write_bytes(b""), "2.png: the image file is empty"),
    (lambda path: path.write_bytes(b"not an image"), "2.png: the image cannot be read"),
    (lambda path: cut(path, 0.6), "2.png: the image cannot be read"),
    (lambda path: cut(path, 0.01), "2.png: the image cannot be read"),
    (
        lambda path: Image.new("RGB", (30, 40)).save(path),
        "has 30 x 40 pixels, but its annotation has 40 x 30",
    ),
    (turn, "has 30 x 40 pixels (turned by its EXIF orientation), but its annotation has 40 x 30"),
    (lambda path: (path.unlink(), path.mkdir()), "2.png: no such image"),
    (
        lambda path: Image.new("L", (40, 30)).save(path, "PCX"),
        "2.png: OpenCV, which loads images for training, cannot decode this PCX file",
    ),
]


@pytest.mark.parametrize(("damage", "message"), BAD_IMAGES)
def test_a_bad_image_is_an_error(
    coco: Dataset, tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(tmp_path / "train/2.png")
    report = check("coco", coco)
    assert len(report.errors) == 1 and message in errors(report)


@pytest.mark.parametrize("name", ["\0.png", "x" * 300 + ".png", "\ud800.png", "../../none.png"])
def test_an_impossible_file_name_is_a_missing_image(coco: Dataset, edit: Edit, name: str) -> None:
    edit(lambda content: content["images"][0].update(file_name=name))
    report = check("coco", coco)
    assert [problem.reason for problem in report.errors] == ["no such image"]
    report.describe().encode()


def test_a_truncated_jpeg_is_an_error(voc: Dataset, tmp_path: Path) -> None:
    cut(tmp_path / "A/JPEGImages/a1.jpg", 0.8)
    assert "a1.jpg: the image cannot be read: image file is truncated" in errors(check("voc", voc))


def test_all_problems_are_reported_at_once(coco: Dataset, edit: Edit, tmp_path: Path) -> None:
    def damage(content: dict[str, Any]) -> None:
        content["images"][0]["width"] = -1
        content["annotations"][2]["bbox"] = [1, 2]
        content["annotations"][3]["category_id"] = 99
        content["annotations"][4]["bbox"] = [1, 2, 0, 0]

    edit(damage)
    (tmp_path / "train/3.png").unlink()
    (tmp_path / "test/1.png").write_bytes(b"no")
    (tmp_path / "test/2.png").write_bytes((tmp_path / "train/2.png").read_bytes())
    report = check("coco", coco)
    text = errors(report)
    for part in (
        "images[0]: 'width' must be a whole number above 0, not -1",
        "annotations[2]: 'bbox' must be four numbers",
        "annotation 5: no category has id 99",
        "train/3.png: no such image",
        "test/1.png: the image cannot be read",
        "test/2.png: this test image is in the training split as",
    ):
        assert part in text
    assert len(report.errors) == 6 and len(report.dirt) == 1
    assert "has no area" in report.dirt[0].reason


def test_dirt_is_left_out_and_counted(coco: Dataset, edit: Edit) -> None:
    def damage(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [1, 2, 0, 4]
        content["annotations"][1]["bbox"] = [50, 2, 4, 4]

    edit(damage)
    report = check("coco", coco)
    assert report.usable and len(report.dirt) == 2
    assert report.splits["train"].boxes == 4 and report.splits["train"].images_without_boxes == 1


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([-5, 2, 20, 5], "sticks out of the image by 5 px"),
        ([30, 2, 20, 5], "sticks out of the image by 10 px"),
        ([3, 2, 0.5, 5], "is thinner than a pixel: evaluation counts it, training does not"),
    ],
)
def test_odd_boxes_are_used_and_noted(
    coco: Dataset, edit: Edit, box: list[float], reason: str
) -> None:
    edit(lambda content: content["annotations"][0].update(bbox=box))
    report = check("coco", coco)
    assert report.usable and report.splits["train"].boxes == 6
    assert reason in report.notes[0].reason


def test_the_same_image_in_both_splits_is_an_error(voc: Dataset, tmp_path: Path) -> None:
    (tmp_path / "A/ImageSets/Main/test.txt").write_text("a3\na2\n")
    text = errors(check("voc", voc))
    assert "a2.jpg: this test image is in the training split also" in text


def test_a_rare_copy_is_only_noted(coco: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(coco.root)
    (root / "test/2.png").write_bytes((root / "train/2.png").read_bytes())
    assert not check("coco", coco).usable
    monkeypatch.setattr("kd.data.check.TOLERATED_OVERLAP", 0.5)
    report = check("coco", coco)
    assert report.usable and "test image is in the training split" in report.notes[0].reason


def test_a_class_without_boxes_is_noted(coco: Dataset, edit: Edit) -> None:
    edit(lambda content: [a.update(category_id=7) for a in content["annotations"]])
    report = check("coco", coco)
    assert report.usable and report.notes[0].reason == "class 'dog' has no box in split 'train'"


def test_a_misspelled_voc_class_is_an_error(voc: Dataset) -> None:
    wrong = voc.model_copy(update={"classes": ["cat", "dgo"]})
    report = check("voc", wrong)
    message = "class 'dgo' has no box in any split; did you mean 'dog'?"
    assert message in errors(report)
    assert "3 boxes of 'dog' in the split" in report.dirt[0].reason


def test_an_empty_split_is_an_error(coco: Dataset, voc: Dataset, tmp_path: Path) -> None:
    empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "annotations/test.json").write_text(json.dumps(empty))
    only_cat = coco.model_copy(update={"classes": ["cat"]})
    assert "split 'test' has no images" in errors(check("coco", only_cat))
    (tmp_path / "A/ImageSets/Main/test.txt").write_text("")
    assert "split 'test' has no images" in errors(check("voc", voc))


def test_an_absent_root_is_one_error(coco: Dataset, tmp_path: Path) -> None:
    gone = coco.model_copy(update={"root": str(tmp_path / "gone"), "fetch": "2 GB; run fetch.sh"})
    report = check("coco", gone)
    assert [problem.reason for problem in report.errors] == ["no such folder; 2 GB; run fetch.sh"]
    assert report.splits == {} and "NOT usable, errors: 1" in report.describe()


def test_absent_annotations_do_not_hide_the_other_split(coco: Dataset, tmp_path: Path) -> None:
    (tmp_path / "annotations/train.json").unlink()
    (tmp_path / "test/1.png").unlink()
    text = errors(check("coco", coco))
    assert "train.json: no such annotation file" in text and "1.png: no such image" in text


def test_without_classes_the_names_come_from_the_files(coco: Dataset, voc: Dataset) -> None:
    for dataset in (coco, voc):
        report = check("free", dataset.model_copy(update={"classes": None}))
        assert report.usable and list(report.splits["test"].boxes_per_class) == ["cat", "dog"]


def test_a_malformed_voc_page_is_reported_once(voc: Dataset, tmp_path: Path) -> None:
    (tmp_path / "A/Annotations/a1.xml").write_text("<annotation>")
    (tmp_path / "A/ImageSets/Main/test.txt").write_text("a1\na3\n")
    report = check("voc", voc)
    assert len(report.errors) == 1 and "a1.xml: not valid XML" in errors(report)


def test_long_lists_are_shortened_in_the_text_only(coco: Dataset, edit: Edit) -> None:
    def damage(content: dict[str, Any]) -> None:
        content["annotations"] = [{"id": i, "image_id": 1} for i in range(50)]

    edit(damage)
    report = check("coco", coco)
    assert len(report.to_json()["errors"]) == 50
    text = report.describe()
    assert "... and 40 more, which `kd check NAME --json` prints" in text
    assert len(text.splitlines()) < 20


def test_a_stale_generated_set_is_an_error(tmp_path: Path) -> None:
    entry = Dataset.read(REPOSITORY / "configs/datasets/shapes-smoke.yaml")
    values = entry.model_dump() | {"root": str(tmp_path / "set")}
    settings = {"train": 30, "test": 26, "size": 64}
    dataset = Dataset.parse({**values, "generate": settings}, "shapes")
    assert dataset.generate is not None
    generate(dataset.generate, tmp_path / "set")
    report = check("shapes", dataset)
    assert report.usable and not report.dirt
    assert report.splits["test"].images_without_boxes == 1
    other = Dataset.parse({**values, "generate": {**settings, "seed": 1}}, "shapes")
    assert "other settings or another version; run `kd generate shapes`" in errors(
        check("shapes", other)
    )


def test_bccd_is_usable(bccd: Dataset) -> None:
    report = check("bccd", bccd)
    assert report.usable and not report.notes
    assert [Path(problem.file).name for problem in report.dirt] == [
        "BloodImage_00338.xml",
        "BloodImage_00343.xml",
    ]
    train, test = report.splits["train"], report.splits["test"]
    assert (train.images + test.images, train.boxes + test.boxes) == (364, 4888 - 2)
    assert (train.small + test.small, train.medium + test.medium) == (41 - 2, 1524)
    assert train.large + test.large == 3323


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Cut off the end, or change, repeat or remove a few bytes."""
    start, stop = sorted(generator.randrange(len(data) + 1) for _ in range(2))
    match generator.randrange(4):
        case 0:
            return data[:start]
        case 1:
            return data[:start] + data[stop:]
        case 2:
            return data[:stop] + data[start:]
        case _:
            place = generator.randrange(len(data))
            return data[:place] + generator.randbytes(1) + data[place + 1 :]


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_to_coco_ends_in_a_report(coco: Dataset, tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    path = tmp_path / "annotations" / generator.choice(["train.json", "test.json"])
    path.write_bytes(mutated(path.read_bytes(), generator))
    report = check("coco", coco)
    assert report.describe() and json.dumps(report.to_json())


VALUES = [None, True, -1, 0, 1e308, 10**25, "", "x", [], [None], {}, {"id": 1}, float("nan")]


@pytest.mark.parametrize("seed", range(120))
def test_any_value_in_coco_ends_in_a_report(coco: Dataset, edit: Edit, seed: int) -> None:
    generator = random.Random(seed)

    def damage(content: dict[str, Any]) -> None:
        for _ in range(generator.randint(1, 3)):
            key = generator.choice(list(content))
            records = content[key]
            record = generator.choice(records) if records and type(records) is list else None
            value = generator.choice(VALUES)
            if not isinstance(record, dict) or generator.random() < 0.2:
                content[key] = value
            else:
                record[generator.choice(list(record) or ["id"])] = value

    edit(damage)
    report = check("coco", coco)
    assert report.describe() and json.dumps(report.to_json())


@pytest.mark.parametrize("seed", range(80))
def test_any_damage_to_voc_ends_in_a_report(voc: Dataset, tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    files = sorted([*tmp_path.rglob("*.xml"), *tmp_path.rglob("*.txt"), *tmp_path.rglob("*.jpg")])
    path = generator.choice(files)
    path.write_bytes(mutated(path.read_bytes(), generator))
    report = check("voc", voc)
    assert report.describe() and json.dumps(report.to_json())


def test_voc_objects_without_area_are_dirt(voc: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "B/Annotations/b1.xml"
    page = path.read_text().replace("<xmax>40<", "<xmax>1<").replace("<ymax>16<", "<ymax>4<")
    path.write_text(page)
    report = check("voc", voc)
    assert report.usable and len(report.dirt) == 2
    assert all(problem.file.endswith("B/Annotations/b1.xml") for problem in report.dirt)


def test_an_absent_image_folder_is_a_separate_error(coco: Dataset, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "test")
    assert "test: no such image folder" in errors(check("coco", coco))
