"""The tutorial on own data from an empty directory: blood cells in three formats."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from kd.cli.main import main
from kd.config.library import Library
from kd.config.plan import plan
from kd.data.readers import valid_scan
from tests.start.drawing import snapshot
from tests.support import machine
from tests.support.paths import CONFIGS, REPOSITORY

SPLITS = ("train", "val", "test")
CLASSES = ["Platelets", "RBC", "WBC"]
SIZE = (640, 480)
TUTORIAL = (REPOSITORY / "docs/tutorials/own-data.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose data are blood cells as VOC, and converted to YOLO and COCO."""
    source = machine.bccd()
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(CONFIGS, folder / "configs")
    for name in ("cells", "yolo", "coco"):
        (folder / "data" / name).mkdir(parents=True)
    for part in ("Annotations", "ImageSets", "JPEGImages"):
        (folder / "data" / "cells" / part).symlink_to(source / part)
    (folder / "data/coco/annotations").mkdir()
    write_data_yaml(folder / "data/yolo")
    for split in SPLITS:
        convert(source, split, folder / "data/yolo", folder / "data/coco")
    return folder


def convert(source: Path, split: str, yolo: Path, coco: Path) -> None:
    """Write the images and boxes of a split of VOC as labels of YOLO and COCO."""
    (yolo / split / "images").mkdir(parents=True)
    (yolo / split / "labels").mkdir()
    (coco / split).mkdir()
    content: dict = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    for name in (source / f"ImageSets/Main/{split}.txt").read_text().split():
        image = source / "JPEGImages" / f"{name}.jpg"
        (yolo / split / "images" / image.name).symlink_to(image)
        (coco / split / image.name).symlink_to(image)
        number = len(content["images"]) + 1
        content["images"].append(
            {"id": number, "file_name": image.name, "width": SIZE[0], "height": SIZE[1]}
        )
        lines = []
        for item in ElementTree.parse(source / "Annotations" / f"{name}.xml").iter("object"):
            x1, y1, x2, y2 = (
                int(item.findtext(f"bndbox/{key}") or "")
                for key in ("xmin", "ymin", "xmax", "ymax")
            )
            box = [x1 - 1, y1 - 1, x2 - x1, y2 - y1]
            label = CLASSES.index(item.findtext("name") or "")
            x, y = (box[0] + box[2] / 2) / SIZE[0], (box[1] + box[3] / 2) / SIZE[1]
            lines.append(f"{label} {x:.7f} {y:.7f} {box[2] / SIZE[0]:.7f} {box[3] / SIZE[1]:.7f}")
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        (yolo / split / "labels" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (coco / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def write_data_yaml(folder: Path) -> None:
    """Write the entry of YOLO as Roboflow does, with paths that begin in another folder."""
    paths = {split: f"../{split}/images" for split in SPLITS}
    (folder / "data.yaml").write_text(yaml.safe_dump({**paths, "nc": 3, "names": CLASSES}))


@pytest.fixture(scope="module")
def started(project: Path) -> dict[str, str]:
    """Return what ``kd start`` prints for each format."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        return {name: run_start(f"data/{name}") for name in ("cells", "yolo", "coco")}


def run_start(*arguments: str) -> str:
    import contextlib
    import io

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(["start", *arguments, "--device", "cpu"]) == 0
    return output.getvalue()


def scans(name: str) -> dict[str, object]:
    dataset = Library().dataset(name, "test")
    return {split: valid_scan(dataset, split) for split in SPLITS}


def content(name: str) -> dict[str, dict[str, list]]:
    """Return the boxes of each image, by split and file name."""
    result: dict[str, dict[str, list]] = {}
    for split, scan in scans(name).items():
        titles = {one["id"]: one["name"] for one in scan.categories}
        files = {one["id"]: Path(one["file_name"]).name for one in scan.images}
        boxes: dict[str, list] = {file: [] for file in files.values()}
        for one in scan.annotations:
            box = (titles[one["category_id"]], *(round(value) for value in one["bbox"]))
            boxes[files[one["image_id"]]].append(box)
        result[split] = {file: sorted(of_image) for file, of_image in boxes.items()}
    return result


def test_three_formats_give_equal_images_and_boxes_in_each_split(
    project: Path, started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    voc, yolo, coco = (content(name) for name in ("cells", "yolo", "coco"))
    assert voc == yolo == coco
    assert {split: len(images) for split, images in voc.items()} == {
        "train": 205, "val": 87, "test": 72,
    }  # fmt: skip
    counts = Counter(
        box[0] for images in voc.values() for boxes in images.values() for box in boxes
    )
    assert counts == {"RBC": 4153, "WBC": 372, "Platelets": 361}
    for name in ("cells", "yolo", "coco"):
        assert "2 boxes without area" in started[name]
        assert "  test: 72 images (0 without boxes), 945 boxes" in started[name]


def test_the_tutorial_prints_what_the_command_prints(started: dict[str, str]) -> None:
    """Only the machine that networks are proposed for differs."""
    cores = re.compile(r"\d+ CPU cores?")
    blocks = re.findall(r"```\n(.*?)```", TUTORIAL, re.DOTALL)
    assert cores.sub("N", started["cells"]) in [cores.sub("N", block) for block in blocks]


def test_the_tutorial_shows_the_changes_of_the_study(
    project: Path, started: dict[str, str]
) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TUTORIAL, re.DOTALL)
    assert block in (project / "configs/studies/cells.yaml").read_text()


def test_the_project_reader_of_voc_gives_the_same_boxes(
    project: Path, started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    Path("configs/datasets/plain.yaml").write_text(
        "{format: voc, root: data/cells, train: [train], val: [val], test: [test], "
        "image_size: [256, 192]}"
    )
    assert content("plain") == content("cells")


def test_the_three_commands_plan_a_teacher_a_student_and_two_methods(
    project: Path, started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    command = started["cells"].rstrip().splitlines()[-1].strip()
    assert command == "snakemake --config study=cells scale=own"
    planned = plan("cells", "own", Library())
    assert [row.kind for row in planned.rows] == [
        "teacher", "baseline", "distilled", "distilled",
    ]  # fmt: skip
    model = next(iter(planned.runs.values())).config["model"]
    assert model["bbox_head"]["anchor_generator"]["octave_base_scale"] == 2
    assert model["bbox_head"]["num_classes"] == 3


def test_a_second_start_needs_force_and_writes_the_same(
    project: Path,
    started: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    files = [Path(f"configs/{kind}/yolo.yaml") for kind in ("datasets", "schedules", "studies")]
    before = {path: path.read_bytes() for path in files}
    originals = snapshot(Path("data/yolo"))
    assert main(["start", "data/yolo"]) == 2
    assert "configs/datasets/yolo.yaml: exists" in capsys.readouterr().err
    run_start("data/yolo", "--force")
    assert {path: path.read_bytes() for path in files} == before
    assert snapshot(Path("data/yolo")) == originals
    files[2].write_text("title: mine\n")
    assert main(["start", "data/yolo", "--force"]) == 2
    assert "was changed after `kd start` wrote it" in capsys.readouterr().err
    files[2].write_bytes(before[files[2]])
