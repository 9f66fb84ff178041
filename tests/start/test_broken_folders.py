"""Broken folders, labels and images: one line with file and remedy, or a stated count."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kd.cli.main import main
from kd.common.errors import UserError
from kd.start.folder import Folder
from tests.start.broken_folders import BROKEN
from tests.start.drawing import coco, coco_content, draw, snapshot, voc, voc_xml, write, yolo
from tests.support.paths import CONFIGS


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    shutil.copytree(CONFIGS, folder / "configs")
    return folder


@pytest.fixture
def project(shared_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shared_project)
    return shared_project


@pytest.fixture
def root(project: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Return a path for a folder; files that ``kd start`` writes for it are removed after."""
    path = Path("data") / re.sub(r"\W+", "-", request.node.name.lower()).strip("-")
    path.parent.mkdir(exist_ok=True)
    yield path
    for kind in ("datasets", "schedules", "studies"):
        Path(f"configs/{kind}/{path.name}.yaml").unlink(missing_ok=True)


def started(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["start", str(root), "--device", "cpu", *options])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused_in_one_line(
    case: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BROKEN[case].make(root)
    before = snapshot(root) if root.is_dir() else {}
    status, output, errors = started(root, capsys)
    lines = [line for line in errors.splitlines() if not line.startswith("reading images")]
    assert (status, output, len(lines)) == (2, "", 1), (output, errors)
    assert lines[0].startswith("error: ")
    assert re.search(BROKEN[case].pattern.replace("{root}", re.escape(str(root))), lines[0]), lines
    assert not list(Path("configs").rglob(f"{root.name}.yaml"))
    assert (snapshot(root) if root.is_dir() else {}) == before


def test_sixty_cases_at_least() -> None:
    assert len(BROKEN) + len(LEFT_OUT) >= 60


def broken_images(root: Path) -> None:
    yolo(root)
    data = (draw(root / "images/3.jpg").read_bytes(), (root / "images/3.png").unlink())[0]
    (root / "images/3.jpg").write_bytes(data[: len(data) // 2])
    (root / "images/4.png").write_bytes(b"")
    (root / "images/5.png").unlink()
    write(root / "images/5.jpg", "this is a text")


def outline_and_mask(root: Path) -> None:
    boxes = coco_content([f"{number}.png" for number in range(12)])["annotations"]
    for box in boxes[:2]:
        del box["bbox"]
    boxes[0]["segmentation"] = [[10, 5, 30, 5, 30, 25]]
    boxes[1]["segmentation"] = {"size": [48, 64], "counts": [48 * 10 + 5, 20, 48 * 54 - 25]}
    coco(root, annotations=boxes)


LEFT_OUT = {
    "broken images": (
        broken_images,
        [
            r"1 images that cannot be read \(the JPEG file ends too early\|?.*3.jpg"
            r"|1 images that cannot be read \(.*\); the first: .*3.jpg",
            r"1 images that cannot be read \(the image file is empty\); the first: .*4.png",
            r"1 images that cannot be read \(it is not in a supported image format\).*5.jpg",
        ],
    ),
    "a label without an image": (
        lambda root: write(yolo(root) / "labels/x.txt", "0 0.5 0.5 0.1 0.1"),
        [r"1 label files without an image; the first: .*x.txt"],
    ),
    "an image without a label": (
        lambda root: draw(yolo(root) / "images/x.png"),
        [r"1 images without a label file, used as images without objects; the first: .*x.png"],
    ),
    "an outline": (
        lambda root: write(yolo(root) / "labels/3.txt", "0 .1 .1 .5 .1 .5 .5 .1 .5"),
        [r"1 outlines or rotated boxes, replaced by the boxes around them; .*3.txt: line 1"],
    ),
    "a line twice": (
        lambda root: write(yolo(root) / "labels/3.txt", "0 .5 .5 .2 .2\n0 .5 .5 .2 .2"),
        [r"1 repeated lines; the first: .*3.txt: line 2"],
    ),
    "a box without area": (
        lambda root: write(voc(root) / "Annotations/3.xml",
                           voc_xml("3.png", objects=[("cat", (9, 9, 9, 20))])),
        [r"1 boxes without area; the first: .*3.xml: object 1"],
    ),
    "a box outside": (
        lambda root: write(voc(root) / "Annotations/3.xml",
                           voc_xml("3.png", objects=[("cat", (99, 9, 120, 20))])),
        [r"1 boxes outside of their image; the first: .*3.xml: object 1"],
    ),
    "an annotation without an image": (
        lambda root: write(voc(root) / "Annotations/x.xml", voc_xml("x.png")),
        [r"1 annotation files without an image; the first: .*x.xml"],
    ),
    "an image without annotation": (
        lambda root: draw(voc(root) / "JPEGImages/x.png"),
        [r"1 images without an annotation file; the first: .*x.png"],
    ),
    "images that no file lists": (
        lambda root: draw(coco(root) / "images/x.png"),
        [r"1 images that no annotation file lists; the first: .*x.png"],
    ),
    "annotations of absent images": (
        lambda root: (coco(root) / "images/3.png").unlink(),
        [r"1 images of annotation files that do not exist; the first: .*3.png"],
    ),
    "outlines and masks without boxes": (
        outline_and_mask, [r"2 outlines without a box, replaced by the boxes around them"],
    ),
    "an absent test split": (
        lambda root: write(yolo(root) / "data.yaml",
                           "{names: [cat], train: ../images, test: ../test/images}"),
        [r"splits without images \('test: ../test/images'\)"],
    ),
    "train and val in one folder": (
        lambda root: write(yolo(root) / "data.yaml", "{names: [a], train: images, val: images}"),
        [r"splits that are the same images, which are split anew"],
    ),
    "a pipe": (lambda root: os.mkfifo(yolo(root) / "images/pipe.png"), [r"train: 9 images"]),
    "few boxes": (yolo, [r"fewer than 10 boxes in train: 'cat' and 'dog'"]),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_left_out_is_counted_with_its_first_file(
    case: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, patterns = LEFT_OUT[case]
    make(root)
    status, output, errors = started(root, capsys)
    assert status == 0, errors
    for pattern in patterns:
        assert re.search(pattern, output), output


def test_a_name_that_is_not_utf8_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (yolo(root) / os.fsdecode(b"\xff.txt")).touch()
    status, _, errors = started(root, capsys)
    assert status == 2 and "its name is not UTF-8; rename it" in errors


def test_a_folder_without_permission() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        closed = Path(name, "labels")
        closed.mkdir()
        Path(name).chmod(0o755)
        closed.chmod(0)
        try:
            if user == 0:
                os.seteuid(65534)  # root may read everything
            with pytest.raises(UserError, match="labels: cannot be read: Permission denied; chan"):
                Folder(Path(name))
        finally:
            os.seteuid(user)
            closed.chmod(0o755)


@pytest.mark.parametrize("folder", ["results/a", "configs/a"])
def test_folders_of_the_project_are_refused(
    project: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(folder).mkdir(parents=True)
    status, _, errors = started(Path(folder), capsys)
    assert status == 2 and "of the project, which the workflow writes; move" in errors
    Path(folder).rmdir()


def test_the_project_is_no_folder_of_images(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, errors = started(Path("."), capsys)
    assert status == 2 and "contains the project; give the folder" in errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--detector", "yolo11"], "--detector: no detector 'yolo11'; did you mean 'yolo"),
        (["--name", "My Cats"], "--name 'My Cats': use letters a to z"),
        (["--name", "2024"], "--name '2024': snakemake reads it as a number; add a word, such as"),
        (["--study", "1e5"], "--study '1e5': snakemake reads it as a number"),
        (["--name", "bccd"], "configs/datasets/bccd.yaml: exists, and `kd start` did not write it"),
        (["--study", "demo"], "configs/studies/demo.yaml: exists, and `kd start` did not write it"),
        (["--format", "voc"], "has no labels of format 'voc'; leave out --format"),
    ],
)
def test_wrong_options_are_refused(
    options: list[str], words: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yolo(root)
    status, _, errors = started(root, capsys, *options)
    assert status == 2 and words in errors
