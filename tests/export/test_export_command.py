"""``kd export``: its output, the comparison of AP, and mistakes."""

import pytest

from kd.cli.main import main
from kd.common.files import write_json
from kd.config.compose import WEIGHTS


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
    ],
)
def test_mistakes_give_one_line(exported, capsys, words, message):
    assert main(["export", str(exported.run.directory), *words]) == 2
    _assert_line(capsys, message)


def test_a_run_without_weights_is_refused(exported, capsys):
    weights = exported.run.directory / WEIGHTS
    weights.rename(weights.with_suffix(".away"))
    try:
        assert main(["export", str(exported.run.directory), "--to", "out"]) == 2
    finally:
        weights.with_suffix(".away").rename(weights)
    _assert_line(capsys, "weights.pth: no such file; write it with `kd train")


def test_a_file_of_another_program_is_refused(exported, tmp_path):
    import onnx

    from kd.common.errors import UserError
    from kd.inference.loading import load_detector

    model = onnx.load(exported.folder / "detector.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UserError, match="metadata without 'classes'"):
        load_detector(tmp_path / "other.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(UserError, match=r"empty\.onnx: onnxruntime cannot load it"):
        load_detector(tmp_path / "empty.onnx")


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
