"""Mistakes on the command line and in configuration files, and how each is made."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.tiny import PARTS, edit

PLAN = "plan tiny --scale tiny"
STUDY = "configs/studies/tiny.yaml"
SCALE = "configs/scales/tiny.yaml"
SCHEDULE = "configs/schedules/tiny.yaml"
DATASET = "configs/datasets/shapes-tiny.yaml"
RESNET = "configs/backbones/r18.yaml"
DETECTOR = "configs/detectors/retinanet.yaml"
PRESET = "configs/presets/rm.yaml"
NUMBERS = Path("configs/published/rm_pfi.csv")
ZEROS = "0" * 64
TABLE: dict[str, Any] = PARTS["studies/tiny"]["tables"]["pair"]


class Case(NamedTuple):
    """A mistake: a change of a tiny project, a command, and parts of its error message."""

    spoil: Callable[[], Any]
    command: str
    message_parts: tuple[str, ...]
    data: bool = False


def nothing() -> None:
    pass


def change(path: str, **changes: Any) -> Callable[[], None]:
    """Return a function that edits a YAML file with ``tests.support.tiny.edit``."""
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
    """Return a function that changes, or removes, a column of a study's published numbers."""

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
    "a folder of results for a run": Case(
        lambda: Path("results/tiny").mkdir(parents=True),
        "train results/tiny",
        ("results/tiny/config.json", "directory or part of its name", "`kd status` lists them"),
    ),
    "an unknown command": Case(
        nothing, "plam tiny", ("'plam'", "did you mean 'plan'?", "kd --help")
    ),
    "an unknown option": Case(
        nothing, f"{PLAN} --sead 3", ("'--sead'", "'--seeds'?", "kd plan --help")
    ),
    "an argument too many": Case(nothing, f"{PLAN} tiny", ("'tiny'", "kd plan --help")),
    "a word for a number": Case(nothing, f"{PLAN} --seeds two", ("--seeds", "'two'")),
    **{
        f"no seeds of {step}": Case(nothing, f"{step} --seeds 0", ("--seeds", "1 or more"))
        for step in (
            "plan tiny",
            "status tiny",
            "status",
            "table tiny",
            "report tiny",
            "compose tiny",
        )
    },
    "no threads": Case(nothing, "crops x --threads 0", ("--threads", "1 or more")),
    "no seconds": Case(nothing, "status --watch 0", ("--watch", "1 or more")),
    "minus one worker": Case(nothing, "train x --workers -1", ("--workers", "'-1'")),
    "an unknown study": Case(nothing, "plan tinny", ("configs/studies", "'tinny'", "'tiny'?")),
    "a study named as a folder of results": Case(
        lambda: Path(STUDY).rename("configs/studies/runs.yaml"),
        "plan runs --scale tiny",
        ("configs/studies/runs.yaml", "rename the study", "results/runs"),
    ),
    "a scale with a space in its name": Case(
        lambda: Path(SCALE).rename("configs/scales/my scale.yaml"),
        "plan tiny --scale 'my scale'",
        ("configs/scales/my scale.yaml", "is not a valid name", "rename the file"),
    ),
    "a data set with a space in its name": Case(
        lambda: Path(DATASET).rename("configs/datasets/my data.yaml"),
        "check 'my data'",
        ("configs/datasets/my data.yaml", "is not a valid name"),
    ),
    "a study with a plus in its name": Case(
        lambda: Path(STUDY).rename("configs/studies/a+b.yaml"),
        "plan a+b --scale tiny",
        ("configs/studies/a+b.yaml", "is not a valid name"),
    ),
    "a detector with a letter beyond ASCII": Case(
        both(
            lambda: Path(DETECTOR).rename("configs/detectors/rétina.yaml"),
            table(detectors=["rétina"]),
            change(SCALE, detectors={}),
        ),
        PLAN,
        ("configs/detectors/rétina.yaml", "is not a valid name"),
    ),
    "an unknown scale": Case(
        nothing, "plan tiny --scale smok", ("configs/scales", "'smok'", "'smoke'?")
    ),
    "an unknown table": Case(nothing, f"{PLAN} --tables pairs", ("'pairs'", "'pair'?")),
    "an unknown data set": Case(
        nothing, "check shapes-tinny", ("configs/datasets", "'shapes-tiny'?")
    ),
    "data that cannot be generated": Case(
        nothing,
        "generate coco2017",
        ("configs/datasets/coco2017.yaml", "not a generated", "shapes-tiny"),
    ),
    "a share of all images": Case(
        nothing, "split coco2017 --share 1", ("--share", "'1'", "below 1", "kd split --help")
    ),
    "a validation split of drawn images": Case(
        nothing, "split shapes-tiny", (DATASET, "'val: 2'", "'generate'", "annotations/val.json")
    ),
    "a second validation split": Case(
        nothing, "split bccd-val", ("configs/datasets/bccd-val.yaml", "already", "remove 'val'")
    ),
    "an unknown split": Case(nothing, "predict x --split dev", ("--split", "'dev'", "val")),
    "no run of that name": Case(
        nothing, "compose tiny --scale tiny --run fcos", ("'fcos'", "kd status tiny")
    ),
    "a folder without the project": Case(
        lambda: os.rename("configs", "elsewhere"), PLAN, ("configs/default.yaml", "project")
    ),
}

IN_A_STUDY = {
    "an unknown data set in a table": Case(
        table(dataset="coco2071"), PLAN, (STUDY, "'pair'", "'coco2071'", "'coco2017'?")
    ),
    "an unknown schedule": Case(table(schedule="9x"), PLAN, (STUDY, "'9x'", "1x")),
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
    "an unknown classifier of a pair": Case(
        both(table(methods=["dicod"]), pair(classifier="r5")), PLAN, (STUDY, "'r5'", "'r50'?")
    ),
    "a classifier of another augmentation": Case(
        both(table(methods=["dicod"]), pair(classifier="r50-ssd")),
        PLAN,
        (STUDY, "'classifier'", "'r50-ssd'", "'ssd'", "'general'"),
    ),
    "an unknown schedule of a teacher": Case(
        pair(teacher_schedule="2y"), PLAN, (STUDY, "'2y'", "'2x'?")
    ),
    "an empty term": Case(table(methods=["rm+"]), PLAN, (STUDY, "''", "rm")),
    "a term named twice": Case(table(methods=["rm+rm"]), PLAN, (STUDY, "'rm+rm'", "twice")),
    "a method under two names": Case(
        table(methods=["rm+rm_class"]), PLAN, (STUDY, "'rm+rm_class'", "'rm'", "two variants")
    ),
    "a misspelled key": Case(change(STUDY, titel="x"), PLAN, (STUDY, "'titel'", "'title'?")),
    "a misspelled key of a table": Case(
        table(detector=["gfl"]), PLAN, (STUDY, "'tables.pair.detector'", "'detectors'?")
    ),
    "a misspelled key of a pair": Case(
        pair(studnet="r18"), PLAN, (STUDY, "'tables.pair.pairs.0.studnet'", "'student'?")
    ),
    "a missing key": Case(table(schedule=None), PLAN, (STUDY, "'tables.pair.schedule'", "missing")),
    "a word for a list": Case(
        table(methods="rm"), PLAN, (STUDY, "'tables.pair.methods'", "must be a list")
    ),
    "a table without pairs": Case(table(pairs=[]), PLAN, (STUDY, "'tables.pair.pairs'")),
    "two tables of one title": Case(
        change(STUDY, tables__other={**TABLE, "methods": ["pfi"]}),
        PLAN,
        (STUDY, "'pair' and 'other'", "'One pair'"),
    ),
    "a study that cites an unknown paper": Case(
        change(STUDY, cite=["li2022knowlege"]),
        PLAN,
        (STUDY, "'cite'", "'li2022knowlege'", "'li2022knowledge'?", "references.bib"),
    ),
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
    **{
        f"published numbers of an unknown {column}": Case(
            published(column, name), PLAN, (str(NUMBERS), "line 2", f"'{column}'", f"'{meant}'?")
        )
        for column, name, meant in (
            ("dataset", "coco217", "coco2017"),
            ("schedule", "1y", "1x"),
            ("detector", "retina_net", "retinanet"),
            ("teacher", "r5", "r50"),
            ("student", "r8-w0.5", "r18"),
            ("method", "rm+pfy", "pfi"),
        )
    },
    "two published numbers of a row": Case(
        published("detector", "gfl"), PLAN, (str(NUMBERS), "'T1'", "'gfl'", "earlier line")
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
    "a scale that substitutes an unknown part": Case(
        change(SCALE, schedules={"1x": "tinny"}), PLAN, (SCALE, "'schedules'", "'tiny'?")
    ),
    "a scale that replaces an unknown part": Case(
        change(SCALE, backbones={"r81": "r18"}), PLAN, (SCALE, "'backbones'", "'r81'")
    ),
    "milestones beyond the epochs": Case(
        change(SCHEDULE, milestones=[8, 11]), PLAN, (SCHEDULE, "[8, 11]", "2 epochs")
    ),
    "a misspelled key of a schedule": Case(
        change(SCHEDULE, epoch=3), PLAN, (SCHEDULE, "'epoch'", "'epochs'?")
    ),
    "a rate of zero": Case(change(SCHEDULE, lr=0), PLAN, (SCHEDULE, "'lr'", "greater")),
    "an unknown initialization": Case(
        change(SCHEDULE, init="coco"), PLAN, (SCHEDULE, "'init'", "'imagenet' or 'scratch'")
    ),
    "weights that a backbone lacks": Case(
        both(change(SCHEDULE, init="imagenet"), change(RESNET, imagenet=None)),
        PLAN,
        (STUDY, "'r18-w0.1875'", "'init: scratch'"),
    ),
    "a misspelled key of a backbone": Case(
        change(RESNET, chanels=[1]),
        PLAN,
        (RESNET, "'chanels'", "'channels'?"),
    ),
    "a misspelled key of a detector": Case(
        change(DETECTOR, modle={}),
        PLAN,
        (DETECTOR, "'modle'", "'model'?"),
    ),
    "a method that reads predictions of a head unknown to it": Case(
        change(DETECTOR, model__bbox_head__type="PAAHead"),
        PLAN,
        (STUDY, "'rm'", "'retinanet'", "PAAHead", "RetinaHead, ATSSHead, GFLHead"),
    ),
    "a preset of an unknown method": Case(
        both(lambda: Path(PRESET).rename("configs/presets/mr.yaml"), table(methods=["rm_loc"])),
        PLAN,
        ("configs/presets/mr.yaml", "'mr'", "'rm'?"),
    ),
    "a preset with an unknown setting": Case(
        both(change(PRESET, rm_loc__settings={"wieght": 1}), table(methods=["rm_loc"])),
        PLAN,
        (PRESET, "'rm_loc'", "'wieght'", "'weight'?"),
    ),
    "a misspelled key of a preset": Case(
        change(PRESET, rm_loc={"title": "locations", "setings": {}}),
        PLAN,
        (PRESET, "'rm_loc'", "'setings'", "'settings'?"),
    ),
    "a preset without a title": Case(
        change(PRESET, rm_loc={"settings": {}}), PLAN, (PRESET, "'rm_loc'", "'title' is missing")
    ),
    "a preset with the name of a method": Case(
        change(PRESET, pfi={"title": "another"}), PLAN, (PRESET, "'pfi'", "name of a method")
    ),
    "two presets of one name": Case(
        change("configs/presets/pfi.yaml", rm_loc={"title": "another"}),
        PLAN,
        (PRESET, "'rm_loc'", "configs/presets/pfi.yaml"),
    ),
    "a preset whose name joins two": Case(
        change(PRESET, **{"rm+loc": {"title": "another"}}), PLAN, (PRESET, "'rm+loc'", "letters")
    ),
    "a list of presets": Case(content(PRESET, "- rm_loc\n"), PLAN, (PRESET, "presets by name")),
    "presets in the folder of earlier versions": Case(
        both(
            lambda: Path("configs/methods").mkdir(),
            content("configs/methods/rm_loc.yaml", "method: rm\n"),
        ),
        PLAN,
        ("configs/methods", "configs/presets/<method>.yaml", "delete the folder"),
    ),
    "a misspelled key of a data set": Case(
        change(DATASET, image_sizes=[1, 1]), PLAN, (DATASET, "'image_sizes'", "'image_size'?")
    ),
    "a misspelled key of a split": Case(
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
