"""Digests of runs: edits of the configuration that make new runs, and edits that do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.config.library import Library
from kd.config.plan import plan
from tests.support.tiny import CLASSES, edit, make_project

STUDY = "configs/studies/tiny.yaml"
EDITED = "configs/studies/edited.yaml"
SCALE = "configs/scales/tiny.yaml"
TEACHER = "r18-w0.1875"
Digests = dict[tuple[str, str, str, int], str]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def add_study() -> None:
    """Add a study with another method, another detector and two seeds."""
    content = yaml.safe_load(Path(STUDY).read_text())
    pair = content["tables"]["pair"]
    pair |= {"detectors": ["retinanet", "gfl"], "methods": ["rm", "pfi", "rm+pfi"]}
    pair |= {"published": "T1"}
    Path("configs/studies/edited.yaml").write_text(
        yaml.safe_dump({**content, "published": "rm_pfi.csv", "seeds": 2})
    )


def digests() -> Digests:
    """Return digests by (detector, student, method, seed), from files that are read again."""
    return {
        (run.detector, run.student, run.method or "alone", run.seed): run.digest
        for run in plan("edited", "tiny", Library()).runs.values()
    }


def comment(path: str) -> Callable[[], None]:
    def edit_file() -> None:
        file = Path(path)
        file.write_text(f"# A comment without effect.\n\n{file.read_text()}\n# and one more\n")

    return edit_file


def reversed_keys(content: Any) -> Any:
    """Return a block with the keys of all its blocks in reversed order."""
    if not isinstance(content, dict):
        return content
    return {key: reversed_keys(value) for key, value in reversed(content.items())}


def reorder(path: str) -> Callable[[], None]:
    """Write a file's keys in another order and another layout."""

    def edit_file() -> None:
        content = reversed_keys(yaml.safe_load(Path(path).read_text()))
        Path(path).write_text(yaml.safe_dump(content, default_flow_style=True, sort_keys=False))

    return edit_file


def setting(path: str, **changes: Any) -> Callable[[], None]:
    return lambda: edit(path, **changes)


def replaced(path: str, old: str, new: str) -> Callable[[], None]:
    def edit_file() -> None:
        text = Path(path).read_text()
        assert text.count(old) == 1
        Path(path).write_text(text.replace(old, new))

    return edit_file


HARMLESS = {
    "comments in the study": comment(EDITED),
    "comments in a schedule": comment("configs/schedules/tiny.yaml"),
    "comments in a detector": comment("configs/detectors/retinanet.yaml"),
    "the order of a study's keys": reorder(EDITED),
    "the order of a detector's keys": reorder("configs/detectors/retinanet.yaml"),
    "the order of a backbone's keys": reorder("configs/backbones/r18.yaml"),
    "the study's title": setting(EDITED, title="Another title", source="elsewhere"),
    "a table's title": setting(EDITED, tables__pair__title="Another title"),
    "a detector's title": setting("configs/detectors/gfl.yaml", title="Another title"),
    "the scale's title": setting(SCALE, title="Another title"),
    "an unused preset": setting("configs/presets/rm.yaml", rm_class__settings={"weight": 7.0}),
    "another study's rows": setting(STUDY, tables__pair__methods=["soft_labels"]),
    "a published number": replaced("configs/published/rm_pfi.csv", "33.3,51.2,35.6,17", "1,2,3,4"),
    "an unused data set": setting("configs/datasets/coco2017.yaml", classes=["one"]),
    "an unused schedule": setting("configs/schedules/2x.yaml", lr=0.5),
    "another scale": setting("configs/scales/smoke.yaml", schedules={"1x": "1x"}),
    "how to fetch the data": setting("configs/datasets/shapes-tiny.yaml", fetch="1 MB"),
    "the main metric": setting("configs/datasets/shapes-tiny.yaml", metric="voc"),
    "an unused backbone": setting("configs/backbones/r34.yaml", channels=[1, 2, 3, 4]),
}


@pytest.mark.parametrize("edited", HARMLESS)
def test_an_edit_without_effect_on_training_makes_no_new_run(edited: str) -> None:
    add_study()
    before = digests()
    HARMLESS[edited]()
    assert digests() == before


def uses(term: str) -> Callable[..., bool]:
    return lambda detector, student, method, seed: term in method.split("+")


def everything(*_: Any) -> bool:
    return True


def wide(name: str) -> dict[str, Any]:
    """Return the tiny scale's changes of a detector, with anchors that are twice as large."""
    changed = yaml.safe_load(Path(SCALE).read_text())["detectors"][name]
    changed["bbox_head"]["anchor_generator"] = {"octave_base_scale": 6}
    return changed


EFFECTIVE: dict[str, tuple[Callable[[], None], Callable[..., bool]]] = {
    "the weight of rm": (
        setting(EDITED, tables__pair__settings={"rm": {"weight": 1.0}}),
        uses("rm"),
    ),
    "a setting of pfi": (
        setting(EDITED, tables__pair__settings={"pfi": {"reduction": "linear"}}),
        uses("pfi"),
    ),
    "the learning rate": (setting("configs/schedules/tiny.yaml", lr=0.005), everything),
    "the epochs": (setting("configs/schedules/tiny.yaml", epochs=3), everything),
    "the classes": (
        setting("configs/datasets/shapes-tiny.yaml", classes=list(reversed(CLASSES))),
        everything,
    ),
    "the image size": (
        setting("configs/datasets/shapes-tiny.yaml", image_size=[96, 96]),
        everything,
    ),
    "a detector's own setting": (
        setting("configs/detectors/gfl.yaml", model__bbox_head__reg_max=8),
        lambda detector, *_: detector == "gfl",
    ),
    "a detector's setting at this scale": (
        lambda: edit(SCALE, detectors__gfl=wide("gfl")),
        lambda detector, *_: detector == "gfl",
    ),
    "the normalization of a backbone": (
        setting("configs/backbones/r18.yaml", model__norm_cfg={"type": "SyncBN"}),
        everything,
    ),
}


def changed(before: Digests, after: Digests) -> set[tuple[Any, ...]]:
    assert before.keys() == after.keys()
    return {run for run, digest in before.items() if after[run] != digest}


@pytest.mark.parametrize("edited", EFFECTIVE)
def test_an_edit_changes_the_digests_of_the_runs_that_it_concerns(edited: str) -> None:
    add_study()
    before = digests()
    edit_files, concerns = EFFECTIVE[edited]
    edit_files()
    expected = {run for run in before if concerns(*run)}
    assert expected
    assert changed(before, digests()) == expected


def test_another_teacher_changes_its_students_and_no_baseline() -> None:
    add_study()
    before = digests()
    edit(SCALE, backbones__r50="r18-w0.25")
    after = digests()
    students = {run for run in before if run[1] != TEACHER}
    assert {run for run in before if run not in after} == before.keys() - students
    for run in students:
        assert (before[run] == after[run]) == (run[2] == "alone")


@pytest.mark.parametrize(
    ("changes", "is_new"),
    [
        ({"seeds": 3}, lambda detector, student, method, seed: seed == 2),
        (
            {"tables__pair__methods": ["rm", "pfi", "rm+pfi", "soft_labels"]},
            lambda detector, student, method, seed: method == "soft_labels",
        ),
        (
            {
                "tables__pair__pairs": [
                    {"teacher": "r50", "student": "r18"},
                    {"teacher": "r50", "student": "r18-w0.25"},
                ]
            },
            lambda detector, student, method, seed: student == "r18-w0.25",
        ),
    ],
    ids=["seed", "method", "pair"],
)
def test_additions_do_not_change_existing_runs(
    changes: dict[str, Any], is_new: Callable[..., bool]
) -> None:
    add_study()
    before = digests()
    edit(EDITED, **changes)
    after = digests()
    assert {run: after[run] for run in before} == before
    added = after.keys() - before.keys()
    assert added
    assert all(is_new(*run) for run in added)
