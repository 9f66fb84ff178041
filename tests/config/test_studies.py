"""Every study, at every scale: it can be planned, and small scales stand in for all it names."""

import pytest

from analysis.figures.planning import plan_figures
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.plan import Row, plan
from tests.support.paths import CONFIGS
from tests.test_imports import heavy_modules

LIBRARY = Library(CONFIGS)
OWN_DATA = {"bccd": "laptop"}
"""Studies of data that are not COCO or VOC, and the scale that they are for."""
CASES = [
    (study, scale)
    for study in LIBRARY.names("studies")
    for scale in ([OWN_DATA[study]] if study in OWN_DATA else ["paper", "mini", "smoke"])
]


@pytest.mark.parametrize(("study", "scale"), CASES)
def test_it_can_be_planned(study: str, scale: str) -> None:
    made = plan(study, scale, LIBRARY)
    names = [name for row in made.rows for name in (run.name for run in row.runs.values())]
    assert names and {*names} <= made.runs.keys()
    assert {row.table for row in made.rows} == made.study.tables.keys()
    assert plan_figures(made, study, scale).keys() == made.study.figures.keys()
    for row in made.rows:
        assert row.kind != "distilled" or row.baselines.keys() == row.runs.keys()


@pytest.mark.parametrize("study", [study for study, scale in CASES if scale == "paper"])
def test_the_scale_of_papers_changes_nothing(study: str) -> None:
    made = plan(study, "paper", LIBRARY)
    for row in made.rows:
        (run, *_) = row.runs.values()
        assert run.dataset == made.study.tables[row.table].dataset
        assert (run.schedule, run.student) == (row.schedule, row.student or row.teacher)
        assert (run.teacher.student if run.teacher else "") in ("", row.teacher)
        assert (run.classifier.classifier if run.classifier else "") == row.classifier


@pytest.mark.parametrize(
    ("study", "scale"), [case for case in CASES if case[1] in ("mini", "smoke")]
)
def test_a_small_scale_stands_in_for_every_part(study: str, scale: str) -> None:
    made = plan(study, scale, LIBRARY)
    for row in made.rows:
        assert absent(row, made.study.tables[row.table].dataset, made.scale) == []
    for run in made.runs.values():
        assert LIBRARY.dataset(run.dataset, "tests").generate
        assert LIBRARY.schedule(run.schedule, "tests").init == "scratch"
        if run.teacher and run.teacher.detector == run.detector:
            assert run.teacher.student != run.student, run.name


def absent(row: Row, dataset: str, scale: Scale) -> list[str]:
    """Return what a row names and a scale leaves as it is."""
    named = [
        (dataset, scale.datasets),
        (row.schedule, scale.schedules),
        *((name, scale.backbones) for name in (row.teacher_backbone, row.student) if name),
        *((name, scale.classifiers) for name in (row.classifier,) if name),
        (row.detector, scale.detectors),
    ]
    if LIBRARY.detector(row.detector, "tests").input_size:
        named.append((row.detector, scale.input_sizes))
    return [name for name, stands_in in named if name not in stands_in]


def test_planning_everything_loads_nothing_heavy() -> None:
    code = (
        "from kd.config.library import Library; from kd.config.plan import plan; "
        f"[plan(study, scale, Library(), 3) for study, scale in {CASES!r}]"
    )
    assert not heavy_modules(code)
