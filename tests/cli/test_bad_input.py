"""Each mistake of a user gives an error message of one line with the place and the remedy.

``python -m tests.cli.test_bad_input`` prints every case with its message.
"""

import contextlib
import gzip
import io
import json
import os
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.cli.main import main
from kd.common.errors import UserError
from kd.common.files import sha256
from kd.workflow.workflow import Workflow
from tests.cli.mistakes import (
    IN_A_STUDY,
    IN_OTHER_PARTS,
    ON_THE_COMMAND_LINE,
    STUDY,
    ZEROS,
    Case,
    both,
    content,
    nothing,
    pair,
)
from tests.support.tiny import DISTILLED, STUDENT, TEACHER, make_project, write_run


def run_of(name: str) -> Path:
    """Write the run of a name and link it as ``run``, for use in commands."""
    directory = write_run(name)
    os.symlink(directory, "run")
    return directory


def student() -> Path:
    return run_of(STUDENT)


def random_weights(config: dict[str, Any], path: Path) -> None:
    import torch

    import kd.runtime  # noqa: F401
    from kd.models import weights
    from kd.models.build import build_model

    torch.manual_seed(0)
    model = build_model(config)
    weights.save(path, {"state_dict": model.state_dict()})


def distilled(teacher_of: Callable[[dict[str, Any], Path], Any]) -> None:
    """Write a run whose teacher's weights are written by a function of model and path."""
    run = run_of(DISTILLED)
    model = json.loads((run / "config.json").read_text())["model"]
    path = Path(model["checkpoint"])
    path.parent.mkdir(parents=True, exist_ok=True)
    teacher_of(model["teacher"], path)


def other_classes(config: dict[str, Any], path: Path) -> None:
    random_weights({**config, "bbox_head": {**config["bbox_head"], "num_classes": 3}}, path)


def pickled(path: Path) -> None:
    """Write a checkpoint as mmengine does, with an object beside the tensors."""
    import torch
    from mmengine.logging import HistoryBuffer

    torch.save({"state_dict": {}, "message_hub": HistoryBuffer()}, path)


def imported(make: Callable[[Path], Any], digest: str | None = None) -> None:
    """Write a teacher run whose weights are a published file."""
    path = Path("published.pth")
    make(path)
    actual = sha256(path) if path.exists() else ZEROS
    pair(checkpoint={"source": str(path), "sha256": digest or actual})()
    run_of(TEACHER)


def detections(write: Callable[[Path], Any]) -> None:
    write(student() / "detections.json.gz")


def gzipped(records: Any) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(gzip.compress(json.dumps(records).encode()))


def truncated(path: Path) -> None:
    gzipped([{"image": 1, "label": 0, "bbox": [0, 0, 9, 9], "score": 0.5}] * 50)(path)
    path.write_bytes(path.read_bytes()[:40])


def misspell(name: str) -> None:
    """Write a run whose configuration has a misspelled type."""
    path = student() / "config.json"
    path.write_text(path.read_text().replace(f'"{name}"', f'"{name}z"'))


def remove(path: str) -> None:
    Path(path).unlink()


DETECTION = {"image": 1, "label": 0, "bbox": [0, 0, 9, 9], "score": 0.5}
CONFIG = "run/config.json"
DETECTIONS = "detections.json.gz"

IN_A_RUN = {
    "a run that does not exist": Case(
        nothing, "train results/nowhere", ("'results/nowhere'", "kd compose STUDY --write")
    ),
    "a run that is not composed": Case(
        both(student, content(CONFIG, "{}")), "train run", (CONFIG, "kd compose")
    ),
    "a configuration that is not JSON": Case(
        both(student, content(CONFIG, "{model: ")), "predict run", (CONFIG, "JSON", "line 1")
    ),
    "a study's file for a run": Case(nothing, f"train {STUDY}", (f"{STUDY}/config.json",)),
    "a head that does not exist": Case(
        lambda: misspell("GlobalBatchRetinaHead"),
        "train run",
        (CONFIG, "no model type 'GlobalBatchRetinaHeadz' in mmdet"),
    ),
    "training without the data": Case(student, "train run", ("annotations/train.json",)),
    "an image that is missing": Case(
        both(student, lambda: remove("data/shapes-tiny/train/000007.png")),
        "train run",
        ("train/000007.png",),
        data=True,
    ),
    "an image missing to a data loading process": Case(
        both(student, lambda: remove("data/shapes-tiny/train/000007.png")),
        "train run --workers 1",
        ("train/000007.png",),
        data=True,
    ),
    "a report that is missing": Case(
        student, "train run --check-report check.json", ("check.json", "no such file")
    ),
    "a report of something else": Case(
        both(student, content("check.json", "[]")),
        "train run --check-report check.json",
        ("check.json", "kd check"),
    ),
    "a batch that cannot be shared": Case(student, "train run", ("batch of 4", "3 processes")),
    "a teacher that is not trained": Case(
        lambda: distilled(lambda model, path: None),
        "train run",
        ("weights.pth", "no such", "`kd train "),
    ),
    "a teacher's file that is no checkpoint": Case(
        lambda: distilled(lambda model, path: path.write_bytes(b"junk")),
        "train run",
        ("weights.pth", "not a readable checkpoint"),
    ),
    "a teacher of other classes": Case(
        lambda: distilled(other_classes),
        "train run",
        ("weights.pth", "number of classes", "retina_cls"),
    ),
    "published weights that are missing": Case(
        lambda: imported(lambda path: None), "train run", ("published.pth", "no such")
    ),
    "published weights of another digest": Case(
        lambda: imported(lambda path: path.write_bytes(b"x"), ZEROS),
        "train run",
        ("published.pth", "SHA-256", ZEROS),
    ),
    "published weights with objects": Case(
        lambda: imported(pickled), "train run", ("published.pth", "no state dict of tensors")
    ),
    "prediction before training": Case(student, "predict run", ("run/weights.pth", "no such")),
    "prediction with half a checkpoint": Case(
        both(student, content("run/weights.pth", b"PK\x03\x04 half of it")),
        "predict run",
        ("run/weights.pth", "truncated"),
    ),
    "evaluation before prediction": Case(
        student, "evaluate run", (f"run/{DETECTIONS}", "kd predict"), data=True
    ),
    "half of the detections": Case(
        lambda: detections(truncated),
        "evaluate run",
        (f"run/{DETECTIONS}", "predict again"),
        data=True,
    ),
    "detections that are not packed": Case(
        lambda: detections(lambda path: path.write_text("[]")),
        "evaluate run",
        (f"run/{DETECTIONS}", "gzip"),
        data=True,
    ),
    "detections on another image": Case(
        lambda: detections(gzipped([{**DETECTION, "image": 999}])),
        "evaluate run",
        (f"run/{DETECTIONS}", "999"),
        data=True,
    ),
    "detections of another class": Case(
        lambda: detections(gzipped([{**DETECTION, "label": 80}])),
        "evaluate run",
        (f"run/{DETECTIONS}", "80"),
        data=True,
    ),
    "evaluation without the data": Case(
        lambda: detections(gzipped([])), "evaluate run", ("data/shapes-tiny",)
    ),
}

CASES = {**ON_THE_COMMAND_LINE, **IN_A_STUDY, **IN_OTHER_PARTS, **IN_A_RUN}


def prepare(case: Case, folder: Path) -> None:
    make_project(folder, data=case.data)
    os.chdir(folder)
    case.spoil()


def environment(name: str) -> dict[str, str]:
    return {"WORLD_SIZE": "3"} if name == "a batch that cannot be shared" else {}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gives_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    prepare(case, tmp_path / "project")
    for key, value in environment(name).items():
        monkeypatch.setenv(key, value)
    capfd.readouterr()
    assert main(shlex.split(case.command)) == 2
    message = capfd.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    for part in case.message_parts:
        assert part in message


def test_data_that_fails_its_check_gives_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    assert main(["check", "shapes-tiny", "--check-report", "check.json"]) == 0
    assert Path("check.json").exists()
    remove("data/shapes-tiny/train/000007.png")
    assert main(["check", "shapes-tiny", "--check-report", "bad.json"]) == 1
    assert "train/000007.png" in capsys.readouterr().out
    assert not Path("bad.json").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sead": 3}, "unknown key 'sead'; did you mean 'seeds'?"),
        ({"schedule": "lr=0.1", "epochs": 6}, "'epochs' is a key of schedules; change it with "),
        ({"seeds": 0}, "key 'seeds'"),
        ({"workers": -1}, "key 'workers'"),
        ({"threads": "all"}, "key 'threads'"),
        ({"tables": "pair,pairs"}, "no table 'pairs'; did you mean 'pair'?"),
        ({"scale": "tinny"}, "did you mean 'tiny'?"),
    ],
)
def test_the_configuration_of_a_workflow_is_checked(
    values: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    options = yaml.safe_load(Path("configs/default.yaml").read_text())
    options |= {"study": "tiny", "scale": "tiny"}
    assert len(Workflow.read(options).runs) == 4
    with pytest.raises(UserError, match=re.escape(message)):
        Workflow.read({**options, **values})


def message_of(name: str) -> str:
    """Return the message of a mistake, made in a folder that is deleted afterwards."""
    errors = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(errors),
        pytest.MonkeyPatch.context() as patch,
    ):
        prepare(CASES[name], Path("project"))
        for key, value in environment(name).items():
            patch.setenv(key, value)
        main(shlex.split(CASES[name].command))
    return errors.getvalue().splitlines()[-1]


if __name__ == "__main__":
    for name, case in CASES.items():
        print(f"- {name}: `kd {case.command}`\n  {message_of(name)}")
