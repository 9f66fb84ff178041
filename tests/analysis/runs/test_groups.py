"""Run groups: their labels, their teachers, and their looks in figures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.figures.base import looks_of
from analysis.runs.groups import RunGroup, read, students_of, teacher_of, truth_of, varying
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from tests.support.tiny import edit, make_project

TABLE = "configs/studies/tiny.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[None]:
    """Work in a tiny project without images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path, data=False))
        yield


def runs(seeds: int = 1, **options: Any) -> dict[str, Path]:
    """Write all runs of the tiny study; return their directories by name."""
    planned = plan("tiny", "tiny", Library(), StudyOptions(seeds=seeds, **options)).runs
    for run in planned.values():
        run.write()
    return {name: run.directory for name, run in planned.items()}


def groups(seeds: int = 1, **options: Any) -> list[RunGroup]:
    return read(list(runs(seeds, **options).values()), Library())


def test_runs_of_several_seeds_are_one_group() -> None:
    run_groups = groups(seeds=3)
    assert [s.label for s in run_groups] == ["Teacher", "Student", "RM", "RM + PFI"]
    assert [s.role for s in run_groups] == ["teacher", "baseline", "distilled", "distilled"]
    assert [list(s.runs) for s in run_groups] == [[0], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    assert run_groups[1].directory == run_groups[1].runs[0]


def test_students_of_paired_teachers_are_one_group() -> None:
    run_groups = groups(seeds=3, teacher_seeds="paired")
    assert [s.label for s in run_groups] == ["Teacher", "Student", "RM", "RM + PFI"]
    assert [list(s.runs) for s in run_groups] == [[0, 1, 2]] * 4
    teacher, *students = run_groups
    assert teacher_of(run_groups) == teacher_of(students) == teacher.runs[0]


def test_the_teacher_of_paired_students_is_that_of_the_seed_that_represents_them() -> None:
    teacher, _, student, _ = groups(seeds=3, teacher_seeds="paired")
    paths = [teacher.runs[0], teacher.runs[2], student.runs[2], student.runs[1], teacher.runs[1]]
    run_groups = read(paths, Library())
    assert [list(group.runs) for group in run_groups] == [[0, 1, 2], [1, 2]]
    assert teacher_of(run_groups) == teacher.runs[1]


def test_students_of_one_seed_and_several_teachers_are_separate_groups() -> None:
    _, _, paired, _ = groups(seeds=2, teacher_seeds="paired")
    _, _, first, _ = groups(seeds=2)
    assert paired.runs[0] == first.runs[0]
    run_groups = read([paired.runs[0], paired.runs[1], first.runs[1]], Library())
    runs_of_groups = [[*group.runs.values()] for group in run_groups]
    assert runs_of_groups == [[paired.runs[0], first.runs[1]], [paired.runs[1]]]
    assert len({group.label for group in run_groups}) == 2


def test_a_detector_is_a_teacher_only_among_its_students() -> None:
    (teacher,) = (path for name, path in runs().items() if "w0.1875/alone" in name)
    (alone,) = read([teacher], Library())
    assert (alone.role, alone.label) == ("baseline", "Student")


def test_the_teacher_is_known_from_its_students() -> None:
    teacher, *students = groups()
    assert teacher_of(students) == teacher_of([teacher, *students]) == teacher.directory
    assert students_of([teacher, *students]) == students


def test_a_missing_teacher_or_student_is_an_error() -> None:
    teacher, baseline, *_ = groups()
    with pytest.raises(UserError, match="none is a teacher's"):
        teacher_of([baseline])
    with pytest.raises(UserError, match="no run of a student"):
        students_of([teacher])


def test_several_teachers_are_an_error_that_names_them() -> None:
    edit("configs/scales/tiny.yaml", backbones__r101="r18-w0.25")
    pairs = [{"teacher": teacher, "student": "r18"} for teacher in ("r50", "r101")]
    edit(TABLE, tables__pair__pairs=pairs)
    run_groups = groups()
    with pytest.raises(UserError, match=r"several teachers: .*w0\.1875.*w0\.25"):
        teacher_of(run_groups)


def test_labels_of_a_sweep_contain_the_setting() -> None:
    edit(TABLE, tables__pair__sweep={"rm": {"weight": [2, 4]}}, tables__pair__methods=["rm"])
    run_groups = groups()
    assert [s.label for s in run_groups[2:]] == ["RM (weight 2.0)", "RM (weight 4.0)"]
    assert varying(run_groups[2:]) == ["rm.weight"]
    assert [s.settings["rm.weight"] for s in run_groups[2:]] == [2, 4]
    looks = looks_of(run_groups)
    assert len({look.color for look in looks.values()}) == len(looks)


def test_labels_of_several_students_contain_the_student() -> None:
    edit("configs/scales/tiny.yaml", backbones__r34="r18-w0.25")
    pairs = [{"teacher": "r50", "student": student} for student in ("r18", "r34")]
    edit(TABLE, tables__pair__pairs=pairs, tables__pair__methods=["rm"])
    labels = [s.label for s in groups()]
    assert labels[1:3] == ["Student (ResNet-18 x0.125)", "RM (ResNet-18 x0.125)"]
    assert len(set(labels)) == len(labels)


def test_a_folder_that_is_no_run_is_an_error() -> None:
    Path("elsewhere").mkdir()
    with pytest.raises(UserError, match=r"elsewhere/run\.json: no such file"):
        read([Path("elsewhere")], Library())
    Path("elsewhere/run.json").write_text(json.dumps({"classifier": "smoke"}))
    with pytest.raises(UserError, match="elsewhere: not the run of a detector"):
        read([Path("elsewhere")], Library())


def test_runs_of_two_data_sets_are_refused() -> None:
    paths = list(runs().values())[1:]
    identity = json.loads((paths[0] / "run.json").read_text())
    (paths[0] / "run.json").write_text(json.dumps(identity | {"dataset": "bccd"}))
    with pytest.raises(UserError, match="different data sets: 'bccd'"):
        truth_of(read(paths, Library()), Library())
