"""Every study at every scale: it can be planned, and small scales have all stand-ins."""

import pytest

from analysis.figures.planning import plan_figures
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.plan import Row, plan
from tests.support.paths import CONFIGS
from tests.test_imports import heavy_modules

LIBRARY = Library(CONFIGS)
OWN_DATA = {"bccd": "laptop"}
"""Studies of other data than COCO and VOC, and their scale."""
CASES = [
    (study, scale)
    for study in LIBRARY.names("studies")
    for scale in ([OWN_DATA[study]] if study in OWN_DATA else ["paper", "mini", "smoke"])
]


@pytest.mark.parametrize(("study", "scale"), CASES)
def test_a_study_can_be_planned(study: str, scale: str) -> None:
    planned = plan(study, scale, LIBRARY)
    names = [name for row in planned.rows for name in (run.name for run in row.runs.values())]
    assert names and {*names} <= planned.runs.keys()
    assert {row.table for row in planned.rows} == planned.study.tables.keys()
    assert plan_figures(planned, study, scale).keys() == planned.study.figures.keys()
    for row in planned.rows:
        assert row.kind != "distilled" or row.baselines.keys() == row.runs.keys()


@pytest.mark.parametrize("study", [study for study, scale in CASES if scale == "paper"])
def test_the_paper_scale_trains_the_parts_of_the_study(study: str) -> None:
    planned = plan(study, "paper", LIBRARY)
    for row in planned.rows:
        (run, *_) = row.runs.values()
        assert run.dataset == planned.study.tables[row.table].dataset
        assert (run.schedule, run.student) == (row.schedule, row.student or row.teacher)
        assert (run.teacher.student if run.teacher else "") in ("", row.teacher)
        assert (run.classifier.classifier if run.classifier else "") == row.classifier


@pytest.mark.parametrize(
    ("study", "scale"), [case for case in CASES if case[1] in ("mini", "smoke")]
)
def test_a_small_scale_has_a_stand_in_for_every_part(study: str, scale: str) -> None:
    planned = plan(study, scale, LIBRARY)
    for row in planned.rows:
        assert absent(row, planned.study.tables[row.table].dataset, planned.scale) == []
        for run in row.runs.values():
            if run.teacher and run.teacher.detector == run.detector:
                is_self = row.teacher_backbone == row.student
                assert (run.teacher.student == run.student) == is_self, run.name
    for run in planned.runs.values():
        assert LIBRARY.dataset(run.dataset, "tests").generate
        assert LIBRARY.schedule(run.schedule, "tests").init == "scratch"


def absent(row: Row, dataset: str, scale: Scale) -> list[str]:
    """Return the parts of a row without a stand-in at a scale."""
    parts = [
        (dataset, scale.datasets),
        (row.schedule, scale.schedules),
        *((name, scale.backbones) for name in (row.teacher_backbone, row.student) if name),
        *((name, scale.classifiers) for name in (row.classifier,) if name),
        (row.detector, scale.detectors),
    ]
    if LIBRARY.detector(row.detector, "tests").input_size:
        parts.append((row.detector, scale.input_sizes))
    return [name for name, stand_ins in parts if name not in stand_ins]


def test_planning_all_studies_imports_no_heavy_module() -> None:
    code = (
        "from kd.config.library import Library; from kd.config.plan import plan; "
        "from kd.config.selection import StudyOptions; "
        f"[plan(study, scale, Library(), StudyOptions(seeds=3)) for study, scale in {CASES!r}]"
    )
    assert not heavy_modules(code)
