"""Seeds of teachers: one teacher for all students, or one for each seed."""

from pathlib import Path
from typing import Any

import pytest

from kd.cli.main import main
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, Row, plan
from kd.config.selection import StudyOptions
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"
PAIR = {"teacher": "r50", "student": "r18"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def planned(**options: Any) -> Plan:
    return plan("tiny", "tiny", Library(), StudyOptions(**{"seeds": 3} | options))


def row_of(planned_study: Plan, method: str) -> Row:
    (row,) = (row for row in planned_study.rows if row.method == method)
    return row


def seeds_of_teachers(planned_study: Plan, method: str = "rm") -> dict[int, int]:
    """Return the seed of the teacher of each student."""
    runs = row_of(planned_study, method).runs
    return {seed: run.teacher.seed for seed, run in runs.items() if run.teacher}


def test_one_teacher_teaches_all_seeds_by_default() -> None:
    assert seeds_of_teachers(planned()) == {0: 0, 1: 0, 2: 0}
    assert planned(teacher_seeds="first").runs.keys() == planned().runs.keys()


def test_a_paired_student_learns_from_the_teacher_of_its_seed() -> None:
    paired = planned(teacher_seeds="paired")
    teachers = row_of(paired, "teacher").runs
    assert list(teachers) == [0, 1, 2]
    for method in ("rm", "rm+pfi"):
        runs = row_of(paired, method).runs
        assert {seed: run.teacher for seed, run in runs.items()} == teachers
        for seed, run in runs.items():
            checkpoint = f"{teachers[seed].directory}/weights.pth"
            assert run.config["model"]["checkpoint"] == checkpoint
    assert len(paired.runs) == len(planned().runs) + 2


def test_pairing_keeps_baselines_and_the_runs_of_seed_0() -> None:
    first, paired = planned(), planned(teacher_seeds="paired")
    assert row_of(paired, "baseline").runs == row_of(first, "baseline").runs
    for method in ("teacher", "rm", "rm+pfi"):
        assert row_of(paired, method).runs[0] == row_of(first, method).runs[0]
        assert row_of(paired, method).runs[1].name not in first.runs


def test_paired_students_differ_only_in_their_seeds() -> None:
    runs = row_of(planned(teacher_seeds="paired"), "rm").runs
    assert len({run.seedless_digest for run in runs.values()}) == 1
    assert len({run.digest for run in runs.values()}) == 3


def test_a_table_overrides_the_study_and_an_option_both() -> None:
    edit(STUDY, teacher_seeds="paired")
    assert seeds_of_teachers(planned()) == {0: 0, 1: 1, 2: 2}
    edit(STUDY, tables__pair__teacher_seeds="first")
    assert seeds_of_teachers(planned()) == {0: 0, 1: 0, 2: 0}
    assert seeds_of_teachers(planned(teacher_seeds="paired")) == {0: 0, 1: 1, 2: 2}


def test_other_seeds_have_teachers_of_these_seeds() -> None:
    edit(STUDY, tables__pair__first_seed=100)
    assert seeds_of_teachers(planned(seeds=2)) == {100: 0, 101: 0}
    assert seeds_of_teachers(planned(seeds=2, teacher_seeds="paired")) == {100: 100, 101: 101}


def test_classifier_teachers_are_paired_as_well() -> None:
    edit(
        STUDY,
        tables__pair__methods=["dicod"],
        tables__pair__classifiers={"general": "smoke"},
        teacher_seeds="paired",
    )
    runs = row_of(planned(), "dicod").runs
    seeds = {seed: run.classifier.seed for seed, run in runs.items() if run.classifier}
    assert seeds == {0: 0, 1: 1, 2: 2}
    classifiers = planned().classifiers.values()
    assert len(classifiers) == 3
    assert len({classifier.crops.name for classifier in classifiers}) == 1


def test_selected_rows_come_with_the_teachers_of_their_seeds() -> None:
    part = planned(teacher_seeds="paired", methods="rm")
    assert [row.method for row in part.rows] == ["teacher", "baseline", "rm"]
    assert list(row_of(part, "teacher").runs) == [0, 1, 2]


def test_published_weights_cannot_be_paired() -> None:
    checkpoint = {"source": "https://example.org/weights.pth", "sha256": "0" * 64}
    edit(STUDY, tables__pair__pairs=[{**PAIR, "checkpoint": checkpoint}])
    assert seeds_of_teachers(planned()) == {0: 0, 1: 0, 2: 0}
    message = (
        "tiny.yaml: table 'pair': 'teacher_seeds: paired' trains a teacher for each seed, but the "
        "pair of teacher 'r50' and student 'r18' has one published 'checkpoint'; delete that key"
    )
    with pytest.raises(UserError, match=message):
        planned(teacher_seeds="paired")


def test_the_command_line_prices_the_teacher_of_each_seed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["plan", "tiny", "--scale", "tiny", "--seeds", "3"]
    for words, trainings in ([], 10), (["--teacher-seeds", "paired"], 12):
        assert main([*command, *words]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed[0].startswith(f"Scale tiny: {trainings} trainings for 4 rows")
    (teacher,) = (line for line in printed if "/teacher" in line)
    assert teacher.split()[1] == "3"
