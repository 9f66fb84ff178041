"""``kd infer``: the detections of ``kd predict``, pictures, and what happens to odd files."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from kd.cli.main import main
from kd.common.files import read_json
from kd.config.library import Library
from kd.evaluation.evaluate import truth_of
from kd.evaluation.predict import predict
from kd.evaluation.stored import coco_results, read_detections
from kd.inference.sources import list_sources


@pytest.fixture
def run(run_of):
    return run_of().directory


@pytest.fixture
def photos(tmp_path):
    """Return a folder with an upright and a turned photo, and an image in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(folder / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture.save(folder / "turned.jpg", exif=exif)
    picture.convert("L").save(folder / "sub" / "grün.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def infer(run, *arguments):
    return main(["infer", str(run), *map(str, arguments), "--device", "cpu"])


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".jpg", ".mp4")
    }


@pytest.mark.parametrize("batch", [1, 3])
def test_detections_equal_those_of_prediction(run_of, batch):
    run = run_of(trained=True).directory
    predict(run)
    truth = truth_of(run, Library()).coco
    expected = coco_results(read_detections(run / "detections.json.gz", truth), truth)
    folder = Path(read_json(run / "config.json")["test_dataloader"]["dataset"]["data_root"], "test")
    assert infer(run, folder, "--to", "out", "--batch", batch) == 0
    images = {one["id"]: one["file_name"] for one in read_json(Path("out/images.json"))["images"]}
    names = {one["id"]: one["file_name"] for one in truth["images"]}
    categories = {one["id"]: one["name"] for one in truth["categories"]}
    ours = {one["id"]: one["name"] for one in read_json(Path("out/images.json"))["categories"]}
    detections = read_json(Path("out/detections.json"))
    assert len(detections) > 0
    key = lambda one: (one[0], one[1], -one[3], one[2])  # noqa: E731
    computed = [
        (images[one["image_id"]], ours[one["category_id"]], one["bbox"], one["score"])
        for one in detections
    ]
    stored = [
        (names[one["image_id"]], categories[one["category_id"]], one["bbox"], one["score"])
        for one in expected
    ]
    for mine, theirs in zip(sorted(computed, key=key), sorted(stored, key=key), strict=True):
        assert mine[:2] == theirs[:2]
        np.testing.assert_allclose(mine[2], theirs[2], atol=0.01)
        assert mine[3] == pytest.approx(theirs[3], abs=1e-6)


def test_a_folder_becomes_pictures_and_coco_files(run, photos, capsys):
    assert infer(run, photos, "--to", "out", "--score", "0") == 0
    assert "out: 3 images with" in capsys.readouterr().out
    assert set(contents(Path("out"))) == {
        "pictures/a.jpg", "pictures/turned.jpg", "pictures/sub/grün.jpg",
    }  # fmt: skip
    content = read_json(Path("out/images.json"))
    images = [tuple(image.values()) for image in content["images"]]
    assert images == [(1, "a.png", 96, 48), (2, "sub/grün.png", 96, 48), (3, "turned.jpg", 48, 96)]
    assert Image.open("out/pictures/turned.jpg").size == (336, 672)  # turned, seven times as large
    with open("out/detections.json") as stream:
        assert len(COCO("out/images.json").loadRes(json.load(stream)).anns) > 0
    record = read_json(Path("out/infer.json"))
    assert record["images"] == 3 and record["failures"] == []


def test_a_pipe_in_a_folder_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "image.png").touch()
    (tmp_path / "broken.png").symlink_to("absent.png")
    names = [path.name for path in list_sources([tmp_path], tmp_path / "out").images]
    assert names == ["broken.png", "image.png"]


def test_broken_files_are_reported_and_left_out(run, photos, capsys):
    whole = (photos / "turned.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.png").touch()
    (photos / "text.png").write_text("no image")
    Image.new("RGB", (3000, 1)).save(photos / "line.png")
    (photos / "film.mp4").write_text("no video")
    assert infer(run, photos, "--to", "out", "--batch", "4", "--workers", "2") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    names = sorted(Path(line.removeprefix("error: ").partition(": ")[0]).name for line in lines)
    assert names == ["cut.jpg", "empty.png", "film.mp4", "line.png", "text.png"]
    assert len(read_json(Path("out/images.json"))["images"]) == 3
    assert len(read_json(Path("out/infer.json"))["failures"]) == 5


def test_finished_pictures_are_skipped_and_changed_images_are_not(run, photos):
    infer(run, photos, "--to", "out")
    before = contents(Path("out"))
    detections = Path("out/detections.json").read_bytes()
    infer(run, photos, "--to", "out")
    assert contents(Path("out")) == before
    assert Path("out/detections.json").read_bytes() == detections

    Image.new("RGB", (50, 50)).save(photos / "a.png")
    Path("out/pictures/turned.jpg").unlink()
    with open("out/progress.jsonl", "a") as stream:
        stream.write('{"file": "sub/gr')  # killed while it wrote a line
    infer(run, photos, "--to", "out")
    after = contents(Path("out"))
    assert sorted(name for name in after if after[name] != before[name]) == [
        "pictures/a.jpg", "pictures/turned.jpg",
    ]  # fmt: skip
    sizes = [(one["width"], one["height"]) for one in read_json(Path("out/images.json"))["images"]]
    assert sizes == [(50, 50), (96, 48), (48, 96)]


def test_a_video_becomes_a_video(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (61, 90, 3), dtype=np.uint8)
    writer = cv2.VideoWriter("film.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (90, 61))
    for shift in range(5):
        writer.write(np.roll(pixels, 9 * shift, axis=1))
    writer.release()
    assert infer(run, "film.avi", "--to", "out", "--batch", "2") == 0
    capture = cv2.VideoCapture("out/videos/film.mp4")
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and capture.get(cv2.CAP_PROP_FPS) == 10
    content = read_json(Path("out/images.json"))
    assert content["videos"] == [{"id": 1, "file_name": "film.avi"}]
    frames = [(one["id"], one["frame_id"], one["seconds"]) for one in content["images"]]
    assert frames == [(1, 0, 0.0), (2, 1, 0.1), (3, 2, 0.2), (4, 3, 0.3), (5, 4, 0.4)]

    data = Path("film.avi").read_bytes()
    Path("film.avi").write_bytes(data[: len(data) * 3 // 5])
    assert infer(run, "film.avi", "--to", "out") == 1
    assert 0 < len(read_json(Path("out/images.json"))["images"]) < 5


def test_files_of_one_name_have_two_pictures(run, photos):
    Image.new("RGB", (40, 40)).save(photos / "a.jpg")
    infer(run, photos / "a.png", photos / "a.jpg", photos / "a.png", "--to", "out")
    assert set(contents(Path("out"))) == {"pictures/a.png.jpg", "pictures/a.jpg.jpg"}


MISTAKES = [
    (["absent.png", "--to", "out"], "absent.png: no such file or folder; give images"),
    (["empty", "--to", "out"], "empty: no image or video in this folder; give files"),
    (["photos", "--to", "photos"], "photos: contains other files than those of `kd infer`"),
    (["photos", "--to", "photos/a.png"], "a.png: a file; give a folder"),
    (["photos", "--to", "out", "--score", "2"], "'2' is not a number from 0 to 1"),
    (["photos"], "the following arguments are required: --to"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line(run, photos, arguments, message, capsys):
    Path("empty").mkdir()
    assert infer(run, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not Path("out").exists()


def test_results_of_another_command_are_not_overwritten(run, photos, capsys):
    infer(run, photos, "--to", "out")
    assert infer(run, photos, "--to", "out", "--score", "0.5") == 2
    assert "out: contains results of another score (score: 0.3, now 0.5)" in capsys.readouterr().err
    assert infer(run, photos / "sub", "--to", "out") == 2
    assert "images of another folder" in capsys.readouterr().err


def test_results_inside_the_folder_of_images_are_no_images(run, photos):
    for name in ("out", "out", "other"):
        assert infer(run, photos, "--to", photos / name) == 0
        assert len(read_json(photos / name / "images.json")["images"]) == 3


def test_links_to_folders_are_followed_once(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").touch()
    (tmp_path / "photos/again").symlink_to(tmp_path / "photos")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/images").symlink_to(tmp_path / "photos")
    sources = list_sources([tmp_path / "set"], tmp_path / "out")
    assert [sources.name(path) for path in sources.images] == ["images/a.png"]
