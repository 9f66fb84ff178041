"""Several studies in one workflow: what they share is run once, each has its own tables."""

from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from kd.monitoring.queue import QueueSnapshot
from kd.monitoring.runs import StatusOptions, select_runs
from kd.workflow.workflow import Workflow
from tests.support.tiny import edit, make_project, write_other_study
from tests.workflow.test_workflow import BOTH, jobs

RUN = ("train", "predict", "evaluate", "resample")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with the tiny study and one that shares its teacher and two students."""
    root = make_project(tmp_path)
    write_other_study(root)
    monkeypatch.chdir(root)
    return root


def options(**values: Any) -> dict[str, Any]:
    return {"study": "tiny", "scale": "tiny", "seeds": None, "tables": None, **values}


def test_shared_runs_run_once(project: Path) -> None:
    runs = dict.fromkeys(RUN, 5)
    data = {"generate_data": 1, "check_data": 1}
    published = {"publish_tiny": 1, "publish_other": 1}
    alone = jobs(project)
    assert {rule: count for rule, count in alone.items() if rule not in data} == {
        **dict.fromkeys(RUN, 4),
        "publish": 1,
    }
    both = jobs(project, config=BOTH)
    assert {rule: count for rule, count in both.items() if rule not in data} == runs | published


def test_runs_are_those_of_each_study_alone(project: Path) -> None:
    plans = [plan(name, "tiny", Library()) for name in ("tiny", "other")]
    workflow = Workflow.read(options(study="tiny,other,tiny"))
    assert workflow.runs.keys() == plans[0].runs.keys() | plans[1].runs.keys()
    assert [publication.study for publication in workflow.publications] == ["tiny", "other"]
    for publication, single in zip(workflow.publications, plans, strict=True):
        assert publication.plan.runs.keys() == single.runs.keys()
        assert publication.arguments == [publication.study, "--scale", "tiny"]


def test_all_is_every_study(project: Path) -> None:
    for path in (project / "configs" / "studies").glob("*.yaml"):
        if path.stem not in ("tiny", "other"):
            path.unlink()
    assert [
        publication.study for publication in Workflow.read(options(study="all")).publications
    ] == [
        "other",
        "tiny",
    ]


def test_figures_are_named_after_their_study(project: Path) -> None:
    edit(project / "configs/studies/tiny.yaml", figures={"curves": {"analysis": "training_curves"}})
    assert jobs(project, "figures")["figure_curves"] == 1
    both = jobs(project, "figures", config=BOTH)
    assert (both["figure_tiny_curves"], both["figure_other_curves"]) == (1, 1)
    only = jobs(project, "figure_other_curves", config=BOTH)
    assert "figure_tiny_curves" not in only and only["figure_other_curves"] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"study": "tiny,othr"}, "no 'othr' in configs/studies; did you mean 'other'"),
        ({"study": ","}, "no ',' in configs/studies"),
        (
            {"study": "tiny,other", "tables": ["pair"]},
            "'tables' .* selects from one study, but 'study' names 2: tiny, other",
        ),
    ],
)
def test_a_mistake_is_one_clear_error(project: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Workflow.read(options(**values))


def test_status_is_of_all_studies_of_the_workflow(project: Path) -> None:
    edit(project / "configs/default.yaml", study="tiny,other", scale="tiny")
    directories = {run.directory for run in select_runs(StatusOptions(), QueueSnapshot())}
    assert directories == {
        run.directory for run in Workflow.read(options(study="tiny,other")).runs.values()
    }
