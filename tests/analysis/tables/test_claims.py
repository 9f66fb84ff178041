"""Claims: their commands, conditions, times and pages."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.cli import parse_config

from analysis.tables.claims.claim import Claim, claims_of, is_claim, trainings
from analysis.tables.claims.effort import effort_of
from analysis.tables.claims.page import claims_page
from analysis.tables.write import publish, results
from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import Run, study_folder
from kd.config.selection import StudyOptions
from kd.resources.rehearsals import Rehearsal, rehearsal_key
from kd.resources.usage import Usage
from kd.workflow.budget import Budget, TrainingBudget
from kd.workflow.options import WorkflowOptions
from kd.workflow.workflow import Publication
from tests.analysis.tables.conftest import metrics
from tests.config.test_published_rows import COLUMNS
from tests.support.paths import CONFIGS
from tests.support.tiny import edit, make_project

LIBRARY = Library(CONFIGS)
STUDIES = [name for name in LIBRARY.names("studies") if LIBRARY.study(name, "tests").published]
STUDY = "configs/studies/tiny.yaml"


def planned_by(command: str) -> Plan:
    """Return the plan of a ``snakemake`` command."""
    program, option, *entries = shlex.split(command)
    assert (program, option) == ("snakemake", "--config")
    config = yaml.safe_load((CONFIGS / "default.yaml").read_text()) | parse_config(entries)
    options = WorkflowOptions.parse(config, command)
    return plan(options.study, options.scale, LIBRARY, options)


@pytest.mark.parametrize("study", STUDIES)
def test_the_command_of_a_claim_runs_its_row_and_what_it_needs_alone(study: str) -> None:
    whole = plan(study, "paper", LIBRARY)
    claimed = [row for row in whole.rows if is_claim(row)]
    claims = claims_of(whole, study, results(whole, LIBRARY), LIBRARY)
    assert len(claims) == len(claimed) > 0
    for row, claim in zip(claimed, claims, strict=True):
        selected = planned_by(claim.command)
        assert selected.scale == LIBRARY.scale("paper", "tests")
        by_kind: dict[str, list[Any]] = {}
        for one in selected.rows:
            by_kind.setdefault(one.kind, []).append(one)
        (distilled,) = by_kind.pop("distilled")
        (baseline,) = by_kind.pop("baseline")
        assert distilled.key == row.key
        assert {*distilled.runs} == {*baseline.runs} == {0, 1, 2}
        assert distilled.baselines == baseline.runs
        needed = {run.teacher.name for run in distilled.runs.values() if run.teacher}
        # A classifier is a teacher without a row.
        taught_by = {run.name for one in by_kind.pop("teacher", []) for run in one.runs.values()}
        assert taught_by == needed
        assert by_kind == {}
        assert claim.effort
        assert {*trainings(distilled)} == {*selected.runs, *selected.classifiers}
        assert sum(claim.effort.sources.values()) == len({*trainings(distilled)})


def training(name: str, basis: Any = None, **values: Any) -> TrainingBudget:
    parts = {"teachers": (), "images": 100, "usage": None, "hours": 0.0, "whole_hours": None}
    return TrainingBudget(**{"name": name, "basis": basis, **parts, **values})


def effort_text(*parts: TrainingBudget, gpus: int = 2, **devices: str) -> str:
    trainings_by_name = {part.name: part for part in parts}
    budget = Budget(trainings_by_name, "paper", gpus, 4)
    return str(effort_of(trainings_by_name, budget, devices))


def test_the_time_of_a_claim_names_its_sources() -> None:
    """Used GPU hours count as used; whole hours of the others count on each of two GPUs."""
    used = training("a", usage=Usage(3.0, 6.0, 10.0, 100, None), whole_hours=3.0)
    begun = training("b", "measured", hours=1.0, whole_hours=4.0)
    rehearsed = training("c", "rehearsed", whole_hours=5.0)
    modeled = training("d", "modeled", whole_hours=0.25)
    corrected = training("e", "corrected", whole_hours=0.75)
    imported = training("f", "measured", images=0, whole_hours=0.0)
    unknown = training("g")
    sources = "1 measured, 1 measured on other seeds, 1 rehearsed, 2 estimated, 1 imported"
    everything = (used, begun, rehearsed, modeled, corrected, imported, unknown)
    assert effort_text(*everything) == f"26.0 GPU h: 7 trainings ({sources}, 1 without an estimate)"
    devices = {"a": "NVIDIA H200", "c": "NVIDIA L4", "d": "NVIDIA H200"}
    text = effort_text(used, rehearsed, gpus=1, **devices)
    assert text == "11.0 GPU h: 2 trainings (1 measured, 1 rehearsed) on NVIDIA H200, NVIDIA L4"
    assert effort_text(used, **devices) == "6.00 GPU h: 1 training, measured on NVIDIA H200"
    assert effort_text(begun) == "8.00 GPU h: 1 training, measured on other seeds"
    assert effort_text(used, modeled, gpus=0) == (
        "3.25 h on the CPU: 2 trainings (1 measured, 1 estimated)"
    )
    assert effort_text(unknown, training("h")) == "no estimate: 2 trainings"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a project whose study has published numbers: RM gains 2.0, RM + PFI is unlike."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    cells = {
        "baseline": ("", "31.0", ""),
        "rm": ("r50", "33.0", ""),
        "rm+pfi": ("r50", "34.0", "other images"),
    }
    lines = [",".join(COLUMNS)]
    for method, (teacher, ap, differs) in cells.items():
        values = dict.fromkeys(COLUMNS, "") | {
            **{"table": "T1", "dataset": "coco2017", "schedule": "1x", "detector": "retinanet"},
            **{"teacher": teacher, "student": "r18", "method": method, "AP": ap},
            **{"source": "a paper", "framework": "mmdetection", "differs": differs},
        }
        lines.append(",".join(values[column] for column in COLUMNS))
    Path("configs/published/tiny.csv").write_text("\n".join(lines) + "\n")
    edit(STUDY, published="tiny.csv", tables__pair__published="T1")


def finish(study_plan: Plan, **points: list[float]) -> None:
    """Write AP by method and seed: by default 40 for teachers and 30 for students."""
    for row in study_plan.rows:
        for seed, run in row.runs.items():
            run.directory.mkdir(parents=True, exist_ok=True)
            usual = 40.0 if row.kind == "teacher" else 30.0
            ap = points[row.method][seed] if row.method in points else usual
            write_json(run.directory / "metrics.json", metrics(ap / 100))


def written(study_plan: Plan, scale: str) -> str:
    publish(study_plan, "tiny", scale)
    return (study_folder("tiny", scale) / "claims.md").read_text()


def cells_of(text: str, method: str) -> dict[str, str]:
    """Return the cells of a claim by column."""
    lines = [[cell.strip() for cell in line.split(" | ")] for line in text.splitlines()]
    (header,) = (line for line in lines if line[0] == "| Claim")
    (cells,) = (line for line in lines if line[0].startswith(f"| {method} on"))
    return dict(zip(header, cells, strict=True))


@pytest.mark.usefixtures("project")
def test_claims_have_our_number_beside_the_published_one() -> None:
    """Gains 1.9, 2.0 and 2.1 have the mean 2.0 and an interval above 0 that is narrower."""
    study_plan = plan("tiny", "paper", Library(), StudyOptions(seeds=3))
    finish(study_plan, baseline=[31.0, 31.2, 30.8], rm=[32.9, 33.2, 32.9])
    text = written(study_plan, "paper")
    claim = cells_of(text, "RM")
    assert claim["| Claim"] == "| RM on RetinaNet, ResNet-50 to ResNet-18"
    assert claim["Published AP"] == "33.0 (+2.0)"
    assert claim["Verdict if"].startswith("reproduced: l > 0, h ≥ 2, h - l < 2;")
    assert claim["Our AP"] == "33.0 ± 0.2"
    assert claim["Our gain"].startswith("+2.0 ± 0.1 (")
    assert (claim["Comparable"], claim["Verdict"]) == ("yes", "reproduced")
    assert claim["Seeds"] == "3/3"
    command = "snakemake --config study=tiny scale=paper seeds=3"
    assert claim["Command |"] == f"`{command} rows=pair/1x/retinanet/r50-r18/rm` |"
    other = cells_of(text, "RM + PFI")
    assert (other["Comparable"], other["Verdict"]) == ("no", "not comparable")
    assert "- † Other images" in text
    assert "Published numbers: a paper." in text
    assert other["| Claim"].endswith("†")


@pytest.mark.usefixtures("project")
def test_measured_and_rehearsed_trainings_name_their_device() -> None:
    """Teacher and baselines are measured on a GPU, and students are rehearsed on another one."""
    study_plan = plan("tiny", "paper", Library(), StudyOptions(seeds=2, rows=["rm"]))
    finish(study_plan)
    usage = {"seconds": 7200, "gpu_seconds": 7200, "images_per_second": 9, "peak_memory_mb": 9}
    for run in study_plan.runs.values():
        if run.method:
            rehearsal_of(run).write(rehearsal_key(run.config))
        else:
            record = usage | {"devices": ["NVIDIA A"], "cpu": "a CPU"}
            write_json(run.directory / "provenance.json", record)
    time = cells_of(written(study_plan, "paper"), "RM")["Time"]
    # 2 x 12 epochs of COCO's 118,287 images at 100 a second are 7.9 hours.
    assert time == "13.9 GPU h: 5 trainings (3 measured, 2 rehearsed) on NVIDIA A, NVIDIA B"


def rehearsal_of(run: Run) -> Rehearsal:
    """Return a rehearsal of a run on a GPU, with its whole batch, of 100 images a second."""
    size = {"gpus": 1, "threads": 1, "workers": 0, "steps": 20, "batch": 16, "planned_batch": 16}
    speed = {"first_step": 1.0, "seconds_per_step": 0.16, "images_per_second": 100.0}
    memory = {"process_mb": 1000, "gpu_mb": 1000, "checkpoint_mb": 100.0}
    rest: dict[str, Any] = {"seconds": {}, "gradient_ratios": {}, "losses": {}}
    parts: dict[str, Any] = {**size, **speed, **memory, **rest}
    return Rehearsal(run.name, "NVIDIA B", data="coco2017", random_weights=(), **parts)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("seeds", "ours"), [(1, None), (2, "32.9 ± 0.1")])
def test_one_seed_below_the_scale_of_the_paper_is_not_beside_a_published_number(
    seeds: int, ours: str | None
) -> None:
    study_plan = plan("tiny", "tiny", Library(), StudyOptions(seeds=seeds))
    finish(study_plan, rm=[32.8, 33.0])
    text = written(study_plan, "tiny")
    claim = cells_of(text, "RM")
    assert claim["| Claim"] == "| RM on RetinaNet, ResNet-50 to ResNet-18"
    assert claim["Verdict"] == "ran at tiny"
    assert claim.get("Our AP") == ours
    assert ("Our numbers are left out" in text) == (ours is None)
    # The command is that of the claim: three seeds, or more than one as the table has.
    assert f"scale=paper seeds={3 if seeds == 1 else 2} rows=" in claim["Command |"]


@pytest.mark.usefixtures("project")
def test_a_project_that_cannot_plan_the_paper_has_claims_without_times() -> None:
    Path("configs/scales/paper.yaml").unlink()
    text = written_partly()
    assert "times are absent" in text
    assert "Time" not in cells_of(text, "RM")


def written_partly() -> str:
    publish(plan("tiny", "tiny", Library()), "tiny", "tiny")
    return (study_folder("tiny", "tiny") / "partial" / "claims.md").read_text()


@pytest.mark.usefixtures("project")
def test_only_a_study_with_published_numbers_has_claims() -> None:
    options = WorkflowOptions(study="tiny", scale="tiny")
    name = "results/tiny/tiny/claims.md"
    assert name in Publication("tiny", plan("tiny", "tiny", Library()), options, Library()).files
    edit(STUDY, published=None, tables__pair__published=None)
    study_plan = plan("tiny", "tiny", Library())
    assert name not in Publication("tiny", study_plan, options, Library()).files
    publish(study_plan, "tiny", "tiny")
    assert not [*Path("results").rglob("claims.md")]


def test_a_selection_without_published_rows_has_no_claim() -> None:
    none: list[Claim] = []
    assert claims_page(none, [], "a study").splitlines()[2].startswith("No selected row")


@pytest.mark.usefixtures("project")
def test_a_control_is_a_gain_without_a_teacher() -> None:
    edit(STUDY, tables__pair__baseline={"same_time": 1.5})
    study_plan = plan("tiny", "paper", Library(), StudyOptions(seeds=2))
    finish(study_plan, same_time=[31.0, 31.2], teacher=[29.0])
    text = written(study_plan, "paper")
    (line,) = (line for line in text.splitlines() if "gain without a teacher" in line)
    assert "gain without a teacher +1.1 ± 0.1" in line
    # A teacher that is worse than the student alone is remarked on the claims it teaches.
    assert "- † Its teacher is not clearly better than its student alone (29.0 and 30.0)" in text
