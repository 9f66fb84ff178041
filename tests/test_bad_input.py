"""Mistakes that users make, each answered in one line that names the place and the remedy.

``python -m tests.test_bad_input`` prints every case with its message.
"""

import contextlib
import csv
import gzip
import io
import json
import os
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from kd.__main__ import main
from kd.errors import UserError
from kd.files import sha256
from kd.settings.workflow import Workflow
from tests.tiny import DISTILLED, STUDENT, TEACHER, edit, make_project, write_run

PLAN = "plan tiny --scale tiny"
STUDY = "configs/studies/tiny.yaml"
SCALE = "configs/scales/tiny.yaml"
SCHEDULE = "configs/schedules/tiny.yaml"
DATASET = "configs/datasets/shapes-tiny.yaml"
RESNET = "configs/backbones/r18.yaml"
DETECTOR = "configs/detectors/retinanet.yaml"
PRESET = "configs/methods/rm_loc.yaml"
NUMBERS = Path("configs/published/rm_pfi.csv")
ZEROS = "0" * 64


class Case(NamedTuple):
    """A mistake: what to spoil in a tiny project, what to run, and what the message must say."""

    spoil: Callable[[], Any]
    command: str
    says: tuple[str, ...]
    data: bool = False


def nothing() -> None:
    pass


def change(path: str, **changes: Any) -> Callable[[], None]:
    """An edit of a YAML file: see tests.tiny.edit."""
    return lambda: edit(path, **changes)


def content(path: str | Path, text: str | bytes) -> Callable[[], Any]:
    data = text.encode() if isinstance(text, str) else text
    return lambda: Path(path).write_bytes(data)


def table(**changes: Any) -> Callable[[], None]:
    return change(STUDY, **{f"tables__pair__{key}": value for key, value in changes.items()})


def pair(**changes: Any) -> Callable[[], None]:
    return table(pairs=[{"teacher": "r50", "student": "r18", **changes}])


def both(*steps: Callable[[], Any]) -> Callable[[], None]:
    def spoil() -> None:
        for step in steps:
            step()

    return spoil


def published(column: str, value: str | None) -> Callable[[], None]:
    """A study with numbers whose first line has another value, or which lack the column."""

    def spoil() -> None:
        with open(NUMBERS, newline="") as stream:
            lines = list(csv.DictReader(stream))
        names = [name for name in lines[0] if name != column or value is not None]
        lines[0][column] = value or ""
        with open(NUMBERS, "w", newline="") as stream:
            writer = csv.DictWriter(stream, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(lines)
        edit(STUDY, published=NUMBERS.name)

    return spoil


ON_THE_COMMAND_LINE = {
    "no step": Case(nothing, "", ("STEP", "kd --help")),
    "an unknown step": Case(nothing, "plam tiny", ("'plam'", "plan")),
    "an unknown option": Case(nothing, f"{PLAN} --sead 3", ("--sead", "--help")),
    "a word for a number": Case(nothing, f"{PLAN} --seeds two", ("--seeds", "'two'")),
    "no seeds": Case(nothing, f"{PLAN} --seeds 0", ("seeds", "at least one")),
    "minus one worker": Case(nothing, "train x --workers -1", ("--workers", "'-1'")),
    "an unknown study": Case(nothing, "plan tinny", ("configs/studies", "'tinny'", "'tiny'?")),
    "an unknown scale": Case(
        nothing, "plan tiny --scale smok", ("configs/scales", "'smok'", "'smoke'?")
    ),
    "an unknown table": Case(nothing, f"{PLAN} --tables pairs", ("'pairs'", "'pair'?")),
    "an unknown data set": Case(
        nothing, "check shapes-tinny", ("configs/datasets", "'shapes-tiny'?")
    ),
    "data that cannot be generated": Case(
        nothing, "data coco2017", ("configs/datasets/coco2017.yaml", "not a generated")
    ),
    "no run of that name": Case(
        nothing, "compose tiny --scale tiny --run fcos", ("'fcos'", "kd plan tiny")
    ),
    "a folder without the project": Case(
        lambda: os.rename("configs", "elsewhere"), PLAN, ("configs", "root of the project")
    ),
}

IN_A_STUDY = {
    "an unknown data set in a table": Case(
        table(dataset="coco2071"), PLAN, (STUDY, "'pair'", "'coco2071'", "'coco2017'?")
    ),
    "an unknown schedule": Case(table(schedule="3x"), PLAN, (STUDY, "'3x'", "1x")),
    "an unknown detector": Case(
        table(detectors=["retinanett"]), PLAN, (STUDY, "'retinanett'", "'retinanet'?")
    ),
    "an unknown detector of a teacher": Case(
        pair(teacher_detector="gfll"), PLAN, (STUDY, "'gfll'", "'gfl'?")
    ),
    "an unknown backbone": Case(pair(student="r81"), PLAN, (STUDY, "'r81'", "r18")),
    "an unknown method": Case(table(methods=["mr"]), PLAN, (STUDY, "'mr'", "'rm'?")),
    "an unknown preset": Case(
        table(methods=["rm_clas+pfi"]), PLAN, (STUDY, "'rm_clas'", "'rm_class'?")
    ),
    "an empty term": Case(table(methods=["rm+"]), PLAN, (STUDY, "''", "rm")),
    "a term named twice": Case(table(methods=["rm+rm"]), PLAN, (STUDY, "'rm+rm'", "twice")),
    "a method under two names": Case(
        table(methods=["rm+rm_class"]), PLAN, (STUDY, "'rm+rm_class'", "'rm'", "twice")
    ),
    "a misspelt key": Case(change(STUDY, titel="x"), PLAN, (STUDY, "'titel'", "'title'?")),
    "a misspelt key of a table": Case(
        table(detector=["gfl"]), PLAN, (STUDY, "'tables.pair.detector'", "'detectors'?")
    ),
    "a misspelt key of a pair": Case(
        pair(studnet="r18"), PLAN, (STUDY, "'tables.pair.pairs.0.studnet'", "'student'?")
    ),
    "a missing key": Case(table(schedule=None), PLAN, (STUDY, "'tables.pair.schedule'", "missing")),
    "a word for a list": Case(
        table(methods="rm"), PLAN, (STUDY, "'tables.pair.methods'", "valid list")
    ),
    "a table without pairs": Case(table(pairs=[]), PLAN, (STUDY, "'tables.pair.pairs'")),
    "a study without seeds": Case(change(STUDY, seeds=0), PLAN, (STUDY, "'seeds'", "greater")),
    "an unknown setting of a method": Case(
        table(settings={"rm": {"wieght": 1}}), PLAN, (STUDY, "'rm'", "'wieght'", "'weight'?")
    ),
    "a negative weight": Case(
        table(settings={"rm": {"weight": -1}}), PLAN, (STUDY, "'rm'", "'weight'", "greater")
    ),
    "a value that a setting does not have": Case(
        table(settings={"pfi": {"reduction": "sum"}}),
        PLAN,
        (STUDY, "'pfi'", "'reduction'", "'squared'"),
    ),
    "settings for a method without a row": Case(
        table(settings={"rmm": {"weight": 1}}), PLAN, (STUDY, "'rmm'", "'rm'?")
    ),
    "a backbone of width 0": Case(pair(student="r18-w0"), PLAN, (STUDY, "'r18-w0'", "width")),
    "a backbone of no width": Case(pair(student="r18-wide"), PLAN, (STUDY, "'r18-wide'", "'r18'?")),
    "a width between channels": Case(
        pair(student="r18-w0.3"), PLAN, (STUDY, "'r18-w0.3'", "19.2", "1/64")
    ),
    "a digest too short": Case(
        pair(checkpoint={"source": "a.pth", "sha256": "abc"}),
        PLAN,
        (STUDY, "checkpoint", "64 hexadecimal"),
    ),
    "an empty file": Case(content(STUDY, ""), PLAN, (STUDY, "'title'", "missing")),
    "a list for a study": Case(content(STUDY, "- tables\n"), PLAN, (STUDY, "block of keys")),
    "a file that is not YAML": Case(
        content(STUDY, "title: x\ntables: [a\n"), PLAN, (STUDY, "YAML", "line 3")
    ),
    "a file with a control character": Case(
        content(STUDY, b"title: x\x00y\n"), PLAN, (STUDY, "YAML")
    ),
    "a key given twice": Case(
        content(STUDY, "title: x\nsource: y\ntitle: z\n"), PLAN, (STUDY, "'title'", "line 3")
    ),
    "a file in another encoding": Case(
        content(STUDY, b"title: Stra\xdfe\n"), PLAN, (STUDY, "UTF-8")
    ),
}

IN_OTHER_PARTS = {
    "no file of published numbers": Case(
        change(STUDY, published="rm_pf.csv"), PLAN, (STUDY, "'published'", "'rm_pfi.csv'?")
    ),
    "a published number with a comma": Case(
        published("AP", "36,1"), PLAN, (str(NUMBERS), "line 2", "'AP'", "'36,1'")
    ),
    "published numbers without a column": Case(
        published("AP75", None), PLAN, (str(NUMBERS), "'AP75'")
    ),
    "published numbers in another encoding": Case(
        both(published("note", "x"), content(NUMBERS, b"table,AP\nStra\xdfe,1\n")),
        PLAN,
        (str(NUMBERS),),
    ),
    "an unknown published table": Case(
        both(change(STUDY, published="rm_pfi.csv"), table(published="T11")),
        PLAN,
        (STUDY, "'pair'", "'T11'", "'T1'?"),
    ),
    "a scale with an unknown setting": Case(
        change(SCALE, detectors__retinanet__bbox_head={"stacked_conv": 1}),
        PLAN,
        (SCALE, "detectors.retinanet.bbox_head", "'stacked_conv'", "'stacked_convs'?"),
    ),
    "a scale for an unknown detector": Case(
        change(SCALE, detectors={"retina": {}}), PLAN, (SCALE, "'detectors'", "'retinanet'?")
    ),
    "a scale that stands in an unknown part": Case(
        change(SCALE, schedules={"1x": "tinny"}), PLAN, (SCALE, "'schedules'", "'tiny'?")
    ),
    "a scale that stands in for an unknown part": Case(
        change(SCALE, backbones={"r81": "r18"}), PLAN, (SCALE, "'backbones'", "'r81'")
    ),
    "milestones beyond the epochs": Case(
        change(SCHEDULE, milestones=[8, 11]), PLAN, (SCHEDULE, "[8, 11]", "2 epochs")
    ),
    "a misspelt key of a schedule": Case(
        change(SCHEDULE, epoch=3), PLAN, (SCHEDULE, "'epoch'", "'epochs'?")
    ),
    "a rate of zero": Case(change(SCHEDULE, lr=0), PLAN, (SCHEDULE, "'lr'", "greater")),
    "an unknown initialisation": Case(
        change(SCHEDULE, init="coco"), PLAN, (SCHEDULE, "'init'", "'imagenet' or 'scratch'")
    ),
    "weights that a backbone lacks": Case(
        both(change(SCHEDULE, init="imagenet"), change(RESNET, imagenet=None)),
        PLAN,
        (STUDY, "'r18-w0.1875'", "'init: scratch'"),
    ),
    "a misspelt key of a backbone": Case(
        change(RESNET, chanels=[1]),
        PLAN,
        (RESNET, "'chanels'", "'channels'?"),
    ),
    "a misspelt key of a detector": Case(
        change(DETECTOR, modle={}),
        PLAN,
        (DETECTOR, "'modle'", "'model'?"),
    ),
    "an unknown observer": Case(
        change(DETECTOR, observer="anchors"),
        PLAN,
        (DETECTOR, "'observer'", "'anchor'?"),
    ),
    "a preset of an unknown method": Case(
        both(change(PRESET, method="mr"), table(methods=["rm_loc"])),
        PLAN,
        (PRESET, "'mr'", "'rm'?"),
    ),
    "a preset with an unknown setting": Case(
        both(
            change(PRESET, settings={"wieght": 1}),
            table(methods=["rm_loc"]),
        ),
        PLAN,
        (PRESET, "'wieght'", "'weight'?"),
    ),
    "a misspelt key of a data set": Case(
        change(DATASET, image_sizes=[1, 1]), PLAN, (DATASET, "'image_sizes'", "'image_size'?")
    ),
    "a misspelt key of a split": Case(
        change(DATASET, train={"annotation": "a.json", "images": "b"}, generate=None),
        PLAN,
        (DATASET, "'train.annotation'", "'annotations'?"),
    ),
    "a split in the other format": Case(
        change(DATASET, test=["test"], generate=None), PLAN, (DATASET, "'test'", "annotations")
    ),
    "a class named twice": Case(
        change(DATASET, classes=["cat", "cat"]), PLAN, (DATASET, "'classes'", "twice")
    ),
    "classes to be read from data that is absent": Case(
        change(DATASET, classes=None, generate=None, root="data/mine"),
        PLAN,
        (DATASET, "data/mine/annotations/train.json", "'data/mine'"),
    ),
}


def run_of(name: str) -> Path:
    """Link the one run of a name as ``run``, so that commands can name it."""
    directory = write_run(name)
    os.symlink(directory, "run")
    return directory


def student() -> Path:
    return run_of(STUDENT)


def random_weights(config: dict[str, Any], path: Path) -> None:
    import torch
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    import kd.runtime  # noqa: F401
    from kd import weights

    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(config, _scope_="mmdet"))
    weights.save(path, {"state_dict": model.state_dict()})


def distilled(teacher_of: Callable[[dict[str, Any], Path], Any]) -> None:
    """Write a run whose teacher's weights are made by a function of its model and their path."""
    run = run_of(DISTILLED)
    model = json.loads((run / "config.json").read_text())["model"]
    path = Path(model["checkpoint"])
    path.parent.mkdir(parents=True, exist_ok=True)
    teacher_of(model["teacher"], path)


def other_classes(config: dict[str, Any], path: Path) -> None:
    random_weights({**config, "bbox_head": {**config["bbox_head"], "num_classes": 3}}, path)


def pickled(path: Path) -> None:
    """A checkpoint as mmengine writes them, with an object beside the tensors."""
    import torch
    from mmengine.logging import HistoryBuffer

    torch.save({"state_dict": {}, "message_hub": HistoryBuffer()}, path)


def imported(make: Callable[[Path], Any], digest: str | None = None) -> None:
    """Write a teacher run whose weights are a published file."""
    path = Path("published.pth")
    make(path)
    found = sha256(path) if path.exists() else ZEROS
    pair(checkpoint={"source": str(path), "sha256": digest or found})()
    run_of(TEACHER)


def detections(write: Callable[[Path], Any]) -> None:
    write(student() / "detections.json.gz")


def gzipped(records: Any) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(gzip.compress(json.dumps(records).encode()))


def truncated(path: Path) -> None:
    gzipped([{"image": 1, "label": 0, "bbox": [0, 0, 9, 9], "score": 0.5}] * 50)(path)
    path.write_bytes(path.read_bytes()[:40])


def remove(path: str) -> None:
    Path(path).unlink()


DETECTION = {"image": 1, "label": 0, "bbox": [0, 0, 9, 9], "score": 0.5}
CONFIG = "run/config.json"
FOUND = "detections.json.gz"

IN_A_RUN = {
    "a run that does not exist": Case(nothing, "train results/nowhere", ("nowhere/config.json",)),
    "a run that is not composed": Case(
        both(student, content(CONFIG, "{}")), "train run", (CONFIG, "kd compose")
    ),
    "a configuration that is not JSON": Case(
        both(student, content(CONFIG, "{model: ")), "predict run", (CONFIG, "JSON", "line 1")
    ),
    "a study's file for a run": Case(nothing, f"train {STUDY}", (f"{STUDY}/config.json",)),
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
        student, "train run --report check.json", ("check.json", "no such file")
    ),
    "a report of something else": Case(
        both(student, content("check.json", "[]")),
        "train run --report check.json",
        ("check.json", "kd check"),
    ),
    "a batch that cannot be shared": Case(student, "train run", ("batch of 4", "3 processes")),
    "a teacher that is not trained": Case(
        lambda: distilled(lambda model, path: None), "train run", ("weights.pth", "no such")
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
        lambda: imported(pickled), "train run", ("published.pth", "Python objects")
    ),
    "prediction before training": Case(student, "predict run", ("run/weights.pth", "no such")),
    "prediction with half a checkpoint": Case(
        both(student, content("run/weights.pth", b"PK\x03\x04 half of it")),
        "predict run",
        ("run/weights.pth", "truncated"),
    ),
    "evaluation before prediction": Case(
        student, "evaluate run", (f"run/{FOUND}", "kd predict"), data=True
    ),
    "half of the detections": Case(
        lambda: detections(truncated), "evaluate run", (f"run/{FOUND}", "predict again"), data=True
    ),
    "detections that are not packed": Case(
        lambda: detections(lambda path: path.write_text("[]")),
        "evaluate run",
        (f"run/{FOUND}", "gzip"),
        data=True,
    ),
    "detections on another image": Case(
        lambda: detections(gzipped([{**DETECTION, "image": 999}])),
        "evaluate run",
        (f"run/{FOUND}", "999"),
        data=True,
    ),
    "detections of another class": Case(
        lambda: detections(gzipped([{**DETECTION, "label": 80}])),
        "evaluate run",
        (f"run/{FOUND}", "80"),
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
def test_a_mistake_is_answered_in_one_line(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
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
    for part in case.says:
        assert part in message


def test_data_that_fails_its_check_gives_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    assert main(["check", "shapes-tiny", "--report", "check.json"]) == 0
    assert Path("check.json").exists()
    remove("data/shapes-tiny/train/000007.png")
    assert main(["check", "shapes-tiny", "--report", "bad.json"]) == 1
    assert "train/000007.png" in capsys.readouterr().out
    assert not Path("bad.json").exists()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sead": 3}, "unknown key 'sead'; did you mean 'seeds'?"),
        ({"seeds": 0}, "key 'seeds'"),
        ({"workers": -1}, "key 'workers'"),
        ({"threads": "all"}, "key 'threads'"),
        ({"tables": "pair,pairs"}, "no table 'pairs'; did you mean 'pair'?"),
        ({"scale": "tinny"}, "did you mean 'tiny'?"),
    ],
)
def test_what_a_workflow_is_asked_for_is_checked(
    values: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    asked = yaml.safe_load(Path("configs/default.yaml").read_text())
    asked |= {"study": "tiny", "scale": "tiny"}
    assert len(Workflow.read(asked).runs) == 4
    with pytest.raises(UserError, match=re.escape(says)):
        Workflow.read({**asked, **values})


def message_of(name: str) -> str:
    """Make a mistake in a folder that is deleted afterwards; return what was said of it."""
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
