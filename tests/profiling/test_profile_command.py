"""``kd profile`` on runs as they lie on disk: what it prints, what it leaves, what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.cli.main import main
from kd.config.run import Run
from kd.profiling.table import describe
from tests.support.tiny_detectors import save_random_weights

QUICK = ["--steps", "2"]


@pytest.fixture
def written(study: Callable[..., Any]) -> Callable[..., Run]:
    """Write the only distilled run of a method, or with ``alone`` its baseline; return it."""

    def one(method: str, alone: bool = False, **options: Any) -> Run:
        runs = study([method], **options).runs.values()
        run = [run for run in runs if (run.method is None) == alone][-1]
        run.write()
        return run

    return one


def profile_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "profile.json").read_text())


@pytest.mark.parametrize(
    ("method", "detector"), [("rm+pfi", "retinanet"), ("defeat", "faster_rcnn")]
)
def test_a_run_that_is_only_composed(written, ballast, capsys, method, detector):
    run = written(method, detectors=(detector,))
    assert main(["profile", str(run.directory), *QUICK]) == 0
    printed, folder = capsys.readouterr(), run.directory / "profile"
    assert {path.name for path in folder.iterdir()} == {
        "profile.json", "profile.md", "profile.png", "profile.pdf",
    }  # fmt: skip
    assert (folder / "profile.md").read_text() in printed.out
    assert "step / bound: " in printed.out and "KD " in printed.out
    assert "steps by part: " in printed.err
    record = profile_of(folder)
    assert record["shape"][0] == 2 and record["ratio"]["rounds"] == 2
    assert {"teacher backbone", "backward"} < record["parts"]["bound"].keys()
    memory = record["memory"]
    assert memory["step"] > ballast > memory["student"] > memory["teacher"] > 0
    both = memory["student"] + memory["teacher"]
    assert memory["extra"] == pytest.approx(memory["step"] / both - 1)
    composed = {"run.json", "config.json", "mmdet_config.py"}
    assert {path.name for path in run.directory.iterdir()} == {*composed, "profile"}


def test_the_gradients_that_pass_the_teacher_have_a_line_where_a_method_needs_them(written):
    run = written("pfi")
    assert main(["profile", str(run.directory), *QUICK]) == 0
    profile = profile_of(run.directory / "profile")
    line = "without the gradients that pass it"
    assert line not in describe(profile)
    profile["seconds"]["forward"] = {"median": 0.25, "low": 0.25, "high": 0.25}
    assert f"{line}: 250.0 ms" in describe(profile)
    del profile["seconds"]["forward"]  # as in a profile of an earlier version
    assert line not in describe(profile)


def test_a_trained_baseline_has_parts_and_no_bound(written, capsys, tmp_path):
    run = written("rm", alone=True)
    save_random_weights(run.config["model"], run.directory)
    arguments = ["--batch", "3", "--to", str(tmp_path / "there"), "--threads", "1"]
    assert main(["profile", str(run.directory), *QUICK, *arguments]) == 0
    assert "bound" not in capsys.readouterr().out
    record = profile_of(tmp_path / "there")
    assert record["ratio"] is None and record["shape"][0] == 3
    assert list(record["parts"]) == ["step"]
    assert not (run.directory / "profile").exists()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["profile", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_teacher_that_is_not_trained_is_named_with_the_remedy(written, capsys):
    run = written("rm")
    missing = run.teacher.directory / "weights.pth"
    missing.unlink()
    line = refused(capsys, run.directory)
    assert line.startswith(f"error: {missing}: no such checkpoint")
    assert f"`kd train {missing.parent}`" in line


def test_published_weights_have_no_step(written, capsys):
    run = written("rm", alone=True)
    published = {key: value for key, value in run.config.items() if key != "train_dataloader"}
    (run.directory / "config.json").write_text(json.dumps(published))
    assert "published" in refused(capsys, run.directory)


def test_a_folder_without_a_run(tmp_path, capsys):
    line = refused(capsys, tmp_path)
    assert line.startswith(f"error: {tmp_path / 'config.json'}: no such file; give a run's ")


def test_steps_are_at_least_one(tmp_path, capsys):
    assert "must be 1 or more" in refused(capsys, tmp_path, "--steps", "0")
