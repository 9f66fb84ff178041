"""Run groups: their labels, their teachers, and their looks in figures."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.plotting.style import BASELINE, COLORS, MARKERS, TEACHER, look
from analysis.runs.groups import RunGroup, read, students_of, teacher_of, truth_of, varying
from kd import methods
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from tests.support.paths import CONFIGS
from tests.support.tiny import edit, make_project

TABLE = "configs/studies/tiny.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[None]:
    """Work in a tiny project without images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path, data=False))
        yield


def runs(seeds: int = 1) -> dict[str, Path]:
    """Write all runs of the tiny study; return their directories by name."""
    planned = plan("tiny", "tiny", Library(), seeds).runs
    for run in planned.values():
        run.write()
    return {name: run.directory for name, run in planned.items()}


def groups(seeds: int = 1) -> list[RunGroup]:
    return read(list(runs(seeds).values()), Library())


def test_runs_of_several_seeds_are_one_group() -> None:
    run_groups = groups(seeds=3)
    assert [s.label for s in run_groups] == ["Teacher", "Student", "RM", "RM + PFI"]
    assert [s.role for s in run_groups] == ["teacher", "baseline", "distilled", "distilled"]
    assert [list(s.runs) for s in run_groups] == [[0], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    assert run_groups[1].directory == run_groups[1].runs[0]


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
    assert run_groups[2].look != run_groups[3].look


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


def test_every_method_and_preset_has_a_distinct_look() -> None:
    names = [*methods.names(), *Library().presets, "rm+pfi", "rm+dicod"]
    looks = {name: look("distilled", name) for name in names}
    assert len(set(looks.values()) | {TEACHER, BASELINE}) == len(names) + 2
    alone = [looks[name] for name in methods.names()]
    for part in ("color", "marker", "hatch"):
        assert len({getattr(method_look, part) for method_look in alone}) == len(alone)
    for one, other in itertools.combinations([*methods.names(), "rm+pfi"], 2):
        assert (looks[one].color, looks[one].marker) != (looks[other].color, looks[other].marker)


def test_a_look_depends_on_the_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new method and a new preset leave the looks of the others."""
    names = [*methods.names(), *Library().presets, "rm+pfi", "rm+dicod", "mine"]
    before = {name: look("distilled", name) for name in names}
    monkeypatch.setattr(methods, "names", lambda: ["aaa", *names])
    preset = "aaa_new: {title: new}\n"
    (Path("configs/presets") / "chen.yaml").write_text(preset, encoding="utf-8")
    assert {name: look("distilled", name) for name in names} == before
    assert (before["rm"].color, before["rm"].marker) == (COLORS[8], MARKERS[8])


def test_rows_of_a_shipped_table_have_distinct_colors() -> None:
    library = Library(CONFIGS)
    for name in library.names("studies"):
        for table in library.study(name, "test").tables.values():
            table_methods = dict.fromkeys(table.methods)
            colors = {look("distilled", method).color for method in table_methods}
            assert len(colors) == len(table_methods), (name, table.title)


@pytest.mark.parametrize("color", COLORS)
def test_a_color_is_visible_on_white(color: str) -> None:
    """Contrast of 3:1 at least, as WCAG 2.1 (1.4.11) asks of graphics."""
    values = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    luminance = sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    assert 1.05 / (luminance + 0.05) >= 3
