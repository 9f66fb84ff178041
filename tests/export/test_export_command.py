"""``kd export``: its output, the comparison of AP, and mistakes."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from kd.cli.main import main
from kd.common.errors import UserError
from kd.common.files import sha256, write_json, write_text
from kd.config.compose import WEIGHTS
from kd.export.export import TrainedRun
from kd.inference.loading import load_detector
from kd.records import inputs


@pytest.fixture(autouse=True)
def in_project(exported, monkeypatch):
    monkeypatch.chdir(exported.project)


def test_a_form_with_another_ap_than_the_run_fails(exported, capsys):
    arguments = ["export", str(exported.run.directory), "--to", "checked", "--forms", "onnx,mmdet"]
    metrics = exported.run.directory / "metrics.json"
    write_json(metrics, {"AP": 0.9})
    assert main([*arguments, "--check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "more than 0.1 AP from the run: mmdet, onnx"
    measured = float(lines[-2].removeprefix("onnx: AP ").split(",")[0])
    write_json(metrics, {"AP": measured / 100})
    assert main([*arguments, "--check"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "configs/default.yaml"], "--to configs/default.yaml: is a file; give a folder"),
        (["--to", "out", "--forms", "onx"], "--forms onx: no such form; did you mean 'onnx'?"),
        ([], "required: --to"),
        (["--to", "notes"], "notes/README.md: exists, and is no model card; move it away"),
    ],
)
def test_mistakes_give_one_line(exported, capsys, words, message):
    write_text(Path("notes/README.md"), "# My notes\n")
    assert main(["export", str(exported.run.directory), *words]) == 2
    _assert_line(capsys, message)


def test_forms_of_another_run_do_not_remain(exported, tmp_path, capsys):
    (tmp_path / "README.md").write_text("# Detector of 2 classes\n\n| run | seed0-other |\n")
    (tmp_path / "detector.onnx").touch()
    words = ["export", str(exported.run.directory), "--to", str(tmp_path), "--forms", "mmdet"]
    assert main(words) == 2
    _assert_line(capsys, "detector.onnx: is of another run and would remain; choose another --to")
    assert not (tmp_path / "mmdet_weights.pth").exists()
    (tmp_path / "README.md").write_text(f"# Detector of {exported.run.directory.name}\n")
    assert main(words) == 0


def test_a_run_without_weights_is_refused(exported, capsys):
    weights = exported.run.directory / WEIGHTS
    weights.rename(weights.with_suffix(".away"))
    try:
        assert main(["export", str(exported.run.directory), "--to", "out"]) == 2
    finally:
        weights.with_suffix(".away").rename(weights)
    _assert_line(capsys, "weights.pth: no such file; write it with `kd train")


def test_a_file_of_another_program_is_refused(exported, tmp_path):
    model = onnx.load(exported.folder / "detector.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UserError, match="metadata without 'classes'"):
        load_detector(tmp_path / "other.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(UserError, match=r"empty\.onnx: onnxruntime cannot load it"):
        load_detector(tmp_path / "empty.onnx")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", "a, b"),
        ("classes", "[1, 2]"),
        ("resize", "[]"),
        ("resize", '{"width": 0, "height": 9, "keep_ratio": true}'),
    ],
)
def test_changed_metadata_are_refused(exported, tmp_path, key, value):
    changed = _with_metadata(exported.folder, tmp_path, {key: value})
    with pytest.raises(UserError, match=f"metadata '{key}' is "):
        load_detector(changed)


def test_metadata_with_too_few_classes_are_refused(exported, tmp_path):
    detector = load_detector(_with_metadata(exported.folder, tmp_path, {"classes": '["one"]'}))
    with pytest.raises(UserError, match=r"detects class \d, but its metadata name 1 classes"):
        detector.detect([np.full((64, 64, 3), 99, np.uint8)])


def test_another_network_is_refused(exported, tmp_path):
    model = onnx.load(exported.folder / "detector.onnx")
    model.graph.output.pop()
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UserError, match="its inputs and outputs are images, boxes, scores, not"):
        load_detector(tmp_path / "other.onnx")


def test_the_directory_of_a_run_is_no_folder_for_an_export(exported, capsys):
    run = str(exported.run.directory)
    assert main(["export", run, "--to", run]) == 2
    _assert_line(capsys, "is the directory of a run, whose mmdet_config.py the export")


def test_the_ap_of_other_weights_is_not_stated(exported, capsys):
    directory = exported.run.directory
    inputs.record(directory, "evaluation", {"weights": sha256(directory / WEIGHTS)})
    assert TrainedRun.read(directory).ap is not None
    inputs.record(directory, "evaluation", {"weights": "0123"})
    try:
        assert TrainedRun.read(directory).ap is None
        assert main(["export", str(directory), "--to", "out", "--check"]) == 2
    finally:
        inputs.record_file(directory, "evaluation").unlink()
    _assert_line(capsys, "metrics.json: the weights changed since; run `kd predict ")


def _with_metadata(folder, other, changes):
    """Write an export's file with other metadata; return its path."""
    model = onnx.load(folder / "detector.onnx")
    facts = {one.key: one.value for one in model.metadata_props}
    onnx.helper.set_model_props(model, facts | changes)
    onnx.save(model, other / "changed.onnx")
    return other / "changed.onnx"


def _assert_line(capsys, message):
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_infer_takes_the_folder_of_an_export(exported, shapes_root, capsys):
    words = ["infer", str(exported.folder), f"{shapes_root}/test", "--to", "detections"]
    assert main(words) == 0
    assert "2 images with 400 detections" in capsys.readouterr().out
    assert main(["infer", "absent.onnx", f"{shapes_root}/test", "--to", "none"]) == 2
    _assert_line(capsys, "absent.onnx: no such file; write it with `kd export RUN --to DIR`")
