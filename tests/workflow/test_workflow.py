"""The workflow from an empty project to a table, and the jobs that run again after an edit."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from kd.cli.main import main
from tests.support.paths import REPOSITORY
from tests.support.tiny import edit, make_project, write_other_study

STUDY = "configs/studies/tiny.yaml"
BOTH = "study=tiny,other"
TABLES = Path("results/tiny/tiny")


def snakemake(
    project: Path, *arguments: str, config: str = "val_interval=1"
) -> subprocess.CompletedProcess[str]:
    """Run the workflow in a project with the profile that every user gets."""
    profile = REPOSITORY / "workflow" / "profiles" / "default"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--workflow-profile", str(profile), *arguments]
    command += ["--config", "study=tiny", "scale=tiny", config]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


TARGETS = ("all", "figures", "paper_figures", "total")


def jobs(project: Path, *targets: str, config: str = "val_interval=1") -> dict[str, int]:
    """Return the number of jobs of each rule in a dry run."""
    result = snakemake(project, "--dry-run", *targets, config=config)
    assert result.returncode == 0, result.stderr
    output = result.stdout + result.stderr
    table = output.split("Job stats:")[-1] if "Job stats:" in output else ""
    counts = re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)
    return {rule: int(count) for rule, count in counts if rule not in TARGETS}


def steps(runs: int) -> dict[str, int]:
    """Return the number of jobs of each rule for a number of runs and their table."""
    return dict.fromkeys(("train", "predict", "evaluate", "resample"), runs) | {"publish": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny project whose study has finished."""
    project = make_project(tmp_path_factory.mktemp("workflow"), data=False)
    result = snakemake(project)
    assert result.returncode == 0, result.stdout + result.stderr
    return project


@pytest.fixture
def edited(finished: Path) -> Callable[..., None]:
    """Return a function that edits a file of the finished project, restored after the test."""
    changed: dict[Path, tuple[bytes, os.stat_result]] = {}

    def change(name: str, text: Callable[[str], str] | None = None, **keys: object) -> None:
        path = finished / name
        changed.setdefault(path, (path.read_bytes(), path.stat()))
        if text:
            path.write_text(text(path.read_text()))
        else:
            edit(path, **keys)

    yield change
    for path, (content, status) in changed.items():
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_one_command_makes_the_table_from_nothing(finished: Path) -> None:
    with open(finished / TABLES / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["row"] for row in rows] == ["Teacher", "Student", "RM", "RM + PFI"]
    assert {row["status"] for row in rows} == {"done"}
    for row in rows:
        directory = finished / row["runs"]
        for file in ("config.json", "run.json", "log.jsonl", "weights.pth", "provenance.json"):
            assert (directory / file).is_file()
    for file in ("table.md", "table.tex", "gains/pair.pdf", "gains/pair.png"):
        assert (finished / TABLES / file).stat().st_size > 0


def documented(section: str) -> list[str]:
    """Return the files in the tables of a section of docs/reference/outputs.md, as patterns."""
    page = (REPOSITORY / "docs/reference/outputs.md").read_text(encoding="utf-8")
    text = page.split(f"\n## {section}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return [re.sub("<[^>]+>", "*", name) + "*" * name.endswith("/") for name in names]


def test_the_reference_lists_every_file_of_the_results(finished: Path) -> None:
    """Every file is in docs/reference/outputs.md, and a run has each file that it always has."""
    run, study = documented("A run"), documented("A study")
    shared = [*documented("Folders that studies share"), *(f"{TABLES}/{name}" for name in study)]
    shared += [f"results/runs/{'*/' * 5}seed*/{name}" for name in run]
    paths = [path for path in (finished / "results").rglob("*") if path.is_file()]
    names = [str(path.relative_to(finished)) for path in paths]
    unlisted = [name for name in names if not any(fnmatch(name, one) for one in shared)]
    assert unlisted == []
    always = run[: run.index("validation.jsonl")]
    for metrics in (finished / "results/runs").rglob("metrics.json"):
        files = [str(path.relative_to(metrics.parent)) for path in metrics.parent.rglob("*")]
        missing = [one for one in always if not any(fnmatch(name, one) for name in files)]
        assert missing == [], metrics.parent


def test_a_second_call_runs_nothing(finished: Path) -> None:
    assert jobs(finished) == {}


def test_selected_rows_write_the_table_again_and_train_nothing(finished: Path) -> None:
    assert jobs(finished, config="methods=rm") == {"publish": 1}


def test_a_changed_schedule_trains_every_run_and_its_teacher(finished: Path) -> None:
    assert jobs(finished, config="schedule=lr=0.5,epochs=1") == steps(4)


def test_a_study_without_figures_says_so(finished: Path) -> None:
    result = snakemake(finished, "figures", "--dry-run")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: no figure to draw: study tiny names")
    result = snakemake(finished, "paper_figures", "--dry-run")
    assert result.returncode == 1
    assert "study tiny names none of its paper" in result.stderr.splitlines()[-1]


HARMLESS = {
    "a comment in a study": (STUDY, "title:", "# a thought\ntitle:"),
    "white space in a study": (STUDY, "title:", "\n\ntitle:   "),
    "a comment in its schedule": ("configs/schedules/tiny.yaml", "lr:", "# slow\nlr:"),
    "the title of its scale": ("configs/scales/tiny.yaml", "seconds on", "a while on"),
    "a comment in its detector": ("configs/detectors/retinanet.yaml", "title:", "# focal\ntitle:"),
    "another detector": ("configs/detectors/gfl.yaml", "reg_max: 16", "reg_max: 8"),
    "another schedule": ("configs/schedules/1x.yaml", "lr: 0.02", "lr: 0.01"),
    "another study": ("configs/studies/bccd.yaml", "rm+pfi", "soft_labels"),
    "an unused variant": (
        "configs/presets/rm.yaml",
        "classification: false",
        "classification: true",
    ),
    "an unused data set": ("configs/datasets/bccd.yaml", "256, 192", "640, 480"),
}


@pytest.mark.parametrize(("file", "old", "new"), HARMLESS.values(), ids=HARMLESS)
def test_an_edit_that_changes_no_run_runs_nothing(
    finished: Path, edited: Callable[..., None], file: str, old: str, new: str
) -> None:
    assert old in (finished / file).read_text()
    edited(file, lambda text: text.replace(old, new, 1))
    assert jobs(finished) == {}


def test_a_new_title_writes_the_table_again_and_trains_nothing(
    finished: Path, edited: Callable[..., None]
) -> None:
    edited(STUDY, title="Another title")
    assert jobs(finished) == {"publish": 1}


@pytest.mark.parametrize(
    ("settings", "students"),
    [({"rm": {"weight": 3.0}}, 2), ({"pfi": {"weight": 3.0}}, 1), ({"rm": {"weight": 4.0}}, 0)],
    ids=["the weight of rm", "the weight of pfi", "the default weight of rm"],
)
def test_a_weight_trains_the_students_that_use_it(
    finished: Path, edited: Callable[..., None], settings: dict, students: int
) -> None:
    edited(STUDY, tables__pair__settings=settings)
    assert jobs(finished) == (steps(students) if students else {})


def test_another_schedule_trains_everything_again(
    finished: Path, edited: Callable[..., None]
) -> None:
    edited("configs/schedules/tiny.yaml", lr=0.02)
    assert jobs(finished) == steps(4)


ANNOTATIONS = "data/shapes-tiny/annotations"


def drop_the_first_box(text: str) -> str:
    content = json.loads(text)
    del content["annotations"][0]
    return json.dumps(content)


@pytest.mark.parametrize("split", ["train", "test"])
def test_changed_labels_are_checked_and_trained_again(
    finished: Path, edited: Callable[..., None], split: str
) -> None:
    edited(f"{ANNOTATIONS}/{split}.json", drop_the_first_box)
    assert jobs(finished) == steps(4) | {"check_data": 1}


def test_a_changed_image_is_checked_and_trained_again(finished: Path, tmp_path: Path) -> None:
    project = shutil.copytree(finished, tmp_path / "project")
    images = project / "data/shapes-tiny/train"
    (images / "000001.png").write_bytes((images / "000000.png").read_bytes())
    assert jobs(project) == steps(4) | {"check_data": 1}


def test_corrected_test_labels_are_evaluated_and_no_step_is_trained_again(
    finished: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(finished, tmp_path / "project")
    weights = {path: path.read_bytes() for path in project.rglob("weights.pth")}
    path = project / ANNOTATIONS / "test.json"
    path.write_text(drop_the_first_box(path.read_text()))
    result = snakemake(project)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("resuming at step 12 of 12") == len(weights) == 4
    assert {path: path.read_bytes() for path in weights} == weights
    counts = {json.loads(path.read_text())["boxes"] for path in project.rglob("seed*/metrics.json")}
    assert counts == {len(json.loads(path.read_text())["annotations"])}
    with open(project / TABLES / "table.csv", newline="") as stream:
        assert {row["unlike"] for row in csv.DictReader(stream)} == {""}
    assert jobs(project) == {}


def test_another_val_interval_trains_nothing_again(finished: Path) -> None:
    runs = (finished / "results" / "runs").rglob("validation.jsonl")
    assert [path.read_text().count("\n") for path in runs] == [1] * 4  # of two epochs
    assert jobs(finished, config="val_interval=5") == {}


def test_figures_are_drawn_again_only_if_they_change(
    finished: Path, edited: Callable[..., None]
) -> None:
    rows = ["baseline", "rm"]
    curves = {"analysis": "training_curves", "settings": {"smooth": 1}}
    errors = {"analysis": "tide", "rows": rows, "settings": {"resamples": 10}}
    edited(STUDY, figures={"curves": curves, "errors": errors})
    assert jobs(finished) == {}
    result = snakemake(finished, "figures")
    assert result.returncode == 0, result.stdout + result.stderr
    folder = finished / TABLES / "figures"
    with open(folder / "errors" / "tide.csv", newline="") as stream:
        assert {row["run"] for row in csv.DictReader(stream)} == {"Student", "RM"}
    assert (folder / "curves" / "training_curves.pdf").stat().st_size > 0
    assert jobs(finished, "figures") == {}
    edited(STUDY, figures__errors__rows=[*rows, "rm+pfi"], title="Another title")
    assert jobs(finished, "figures") == {"figure_errors": 1}
    edited(STUDY, figures={"curves": curves | {"settings": {"smooth": 2}}})
    assert jobs(finished, "figures") == {"figure_curves": 1}


def test_the_figures_of_the_paper_are_files_with_its_names(
    finished: Path, edited: Callable[..., None]
) -> None:
    curves = {"analysis": "training_curves", "paper": {"figure": "Figure S1", "differs": "Other."}}
    edited(STUDY, figures={"curves": curves, "other": {"analysis": "tide"}})
    result = snakemake(finished, "paper_figures")
    assert result.returncode == 0, result.stdout + result.stderr
    folder = finished / TABLES
    pictures = [folder / "paper" / f"figure-s1.{kind}" for kind in ("png", "pdf")]
    for picture in pictures:
        original = folder / "figures" / "curves" / f"training_curves{picture.suffix}"
        assert picture.read_bytes() == original.read_bytes()
    text = (folder / "paper" / "figure-s1.md").read_text()
    assert text.startswith("# Figure S1\n") and "differs from the paper's: Other." in text
    assert (folder / "figures" / "curves" / "caption.md").read_text() in text
    assert not (folder / "figures" / "other").exists()
    edited(STUDY, figures={"curves": curves | {"paper": {"figure": "Figure S1"}}})
    assert jobs(finished, "paper_figures") == {"paper_figure_s1": 1}


def test_a_figure_after_an_epoch_trains_its_students_that_far(
    finished: Path, edited: Callable[..., None]
) -> None:
    channels = {"analysis": "channel_distance", "rows": ["rm"], "epoch": 1}
    edited(STUDY, figures={"channels": channels | {"paper": {"figure": "Figure S2"}}})
    once = {"train": 1, "figure_channels": 1, "paper_figure_s2": 1}
    assert jobs(finished, "paper_figures") == once
    assert jobs(finished) == {}


def test_an_unknown_analysis_is_one_clear_error(
    finished: Path, edited: Callable[..., None]
) -> None:
    edited(STUDY, figures={"errors": {"analysis": "tidy"}})
    result = snakemake(finished)
    assert result.returncode == 1
    assert f"{STUDY}: figure 'errors': no analysis 'tidy'; did you mean 'tide'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_failed_run_is_a_row_with_its_reason(finished: Path, edited: Callable[..., None]) -> None:
    edited(STUDY, tables__pair__settings={"pfi": {"weight": 1e40}})
    result = snakemake(finished)
    assert result.returncode == 1
    table = (finished / TABLES / "partial" / "table.md").read_text()
    (row,) = (line.replace("\\", "") for line in table.splitlines() if "RM + PFI" in line)
    assert re.search(r"failed: step 1: loss_pfi at level \d is (inf|nan)", row)
    assert table in result.stdout


def test_a_table_of_unfinished_runs_does_not_skip_jobs(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    expected = jobs(project)
    for step in (["compose", "--write"], ["table"]):
        subprocess.run(
            [sys.executable, "-m", "kd", step[0], "tiny", "--scale", "tiny", *step[1:]],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            cwd=project,
            check=True,
        )
    assert (project / TABLES / "partial" / "table.md").is_file()
    assert jobs(project) == expected


def test_missing_data_is_one_clear_error(tmp_path: Path) -> None:
    project = make_project(tmp_path, data=False)
    edit(project / "configs/scales/tiny.yaml", datasets=None)
    assert jobs(project)["train"] == 4
    result = snakemake(project)
    assert result.returncode == 1
    assert "data/coco" in result.stderr
    assert "workflow/scripts/download_coco.sh" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (project / "results" / "runs").exists()


def test_the_last_rule_succeeds_in_a_locale_without_the_characters_of_the_table(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name, value in ascii_locale.items():
        monkeypatch.setenv(name, value)
    result = snakemake(finished, "--forcerun", "publish")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "UnicodeEncodeError" not in result.stdout + result.stderr


def test_kd_status_shows_the_studies_of_the_last_workflow(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default study is the demo, but the last workflow ran another one."""
    monkeypatch.chdir(finished)
    assert main(["status", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len(runs) == 4 and all("/tiny/shapes-tiny/" in run["run"] for run in runs)


def test_a_sweep_with_a_validation_split_measures_its_rows_on_both_splits(tmp_path: Path) -> None:
    project = make_project(tmp_path, data=False)
    val = {"annotations": "annotations/val.json", "images": "val"}
    edit(project / "configs/datasets/shapes-tiny.yaml", val=val, generate__val=4)
    edit(project / STUDY, tables__pair__sweep={"rm": {"weight": [2, 8]}})
    on_validation = ("predict", "evaluate", "resample")
    validated = {f"{step}_on_validation": 6 for step in on_validation}
    data = {"generate_data": 1, "check_data": 1}
    assert jobs(project) == steps(6) | validated | data


def test_a_finished_study_does_not_run_again_with_another(finished: Path, tmp_path: Path) -> None:
    """The rule of its tables has another name then, and the same inputs."""
    project = shutil.copytree(finished, tmp_path / "project")
    write_other_study(project)
    left = {rule: count for rule, count in steps(1).items() if rule != "publish"}
    left |= {"publish_other": 1}
    assert jobs(project, config=BOTH) == left
    done = snakemake(project, config=BOTH)
    assert done.returncode == 0, done.stdout + done.stderr
    for study in ("tiny", "other"):
        folder = project / "results" / study / "tiny"
        assert (folder / "table.md").read_text() in done.stdout
        assert f"{folder.relative_to(project)}/report.html: 4 runs: 4 done" in done.stdout
    assert jobs(project, config=BOTH) == jobs(project) == {}
