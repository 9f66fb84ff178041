"""``kd infer`` and ``kd latency`` take exports in place of runs."""

import json
from pathlib import Path

import pytest

from kd.cli.main import main
from kd.common.files import read_json


@pytest.fixture
def images(exported, shapes_root, monkeypatch):
    """Return a folder with images in the run's size, in the project of the exported run."""
    monkeypatch.chdir(exported.project)
    return shapes_root / "test"


def test_an_export_detects_what_its_run_detects(exported, images, tmp_path):
    results = []
    for source in (exported.run.directory, exported.folder, exported.folder / "detector.onnx"):
        folder = tmp_path / f"results{len(results)}"
        words = ["infer", str(source), str(images), "--to", str(folder), "--batch", "3"]
        assert main([*words, "--device", "cpu"]) == 0
        results.append(read_json(folder / "detections.json"))
        categories = read_json(folder / "images.json")["categories"]
        assert [one["name"] for one in categories] == exported.run.composed.class_names
    ours, *exports = results
    for theirs in exports:
        assert len(ours) == len(theirs) > 0
        for mine, other in zip(ours, theirs, strict=True):  # both by image, best first
            assert mine["image_id"] == other["image_id"]
            assert mine["score"] == pytest.approx(other["score"], abs=1e-3)


def test_an_export_is_measured_beside_its_run(exported, images, capsys):
    words = ["--batch", "1,2", "--iterations", "1", "--warm-up", "0", "--device", "cpu", "--json"]
    assert main(["latency", str(exported.run.directory), str(exported.folder), *words]) == 0
    run, export = json.loads(capsys.readouterr().out)["rows"]
    assert run["runtime"].startswith("torch ") and export["runtime"].startswith("onnxruntime ")
    assert run["threads"] == export["threads"] == 1
    assert run["images"] == export["images"] and export["parameters"] is None
    assert export["file"] == str(exported.folder / "detector.onnx")
    assert not (exported.folder / "latency.json").exists()


def test_the_size_of_an_export_cannot_change(exported, images, capsys):
    assert main(["latency", str(exported.folder), "--size", "99,99", "--device", "cpu"]) == 2
    assert "its images are 64 x 64 pixels, not 99 x 99" in capsys.readouterr().err


def test_an_absent_export_is_refused(images, capsys):
    path = Path("absent.onnx")
    assert main(["infer", str(path), str(images), "--to", "out"]) == 2
    assert "absent.onnx: no such file; write it with `kd export RUN" in capsys.readouterr().err
