"""Status table: which runs it has, its lines, its width, and the summary."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kd.cli.main import main
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from kd.monitoring.queue import QueueSnapshot
from kd.monitoring.status import Status
from kd.monitoring.table import status_table, to_json
from tests.monitoring.projects import (
    RECORD,
    TINY,
    install_squeue,
    submit,
    write,
    write_log,
    write_planned_run,
)
from tests.support.tiny import DISTILLED, STUDENT, TEACHER


def test_runs_without_files_are_listed_as_not_started_or_waiting(
    print_status: Callable[..., str],
) -> None:
    text = print_status(*TINY)
    assert "results/runs/tiny/shapes-tiny/tiny/retinanet-r18-w0.125  from retinanet-r18" in text
    assert text.count("not started") == 3  # two lines and the summary
    assert text.count("waiting for teacher retinanet-r18-w0.1875\n") == 2
    assert "4 runs: 2 waiting for teacher, 2 not started" in text


def test_idle_seeds_share_a_line(print_status: Callable[..., str]) -> None:
    lines = print_status(*TINY, "--seeds", "4").splitlines()
    assert [" ".join(line.split()) for line in lines if " runs " in line[:12]] == [
        "4 runs alone 0\u20133 not started \u2013",
        "4 runs rm 0\u20133 waiting for teacher retinanet-r18-w0.1875",
        "4 runs rm+pfi 0\u20133 waiting for teacher retinanet-r18-w0.1875",
    ]
    runs = plan("tiny", "tiny", Library(), StudyOptions(seeds=4)).runs.values()
    (run,) = (run for run in runs if f"/{STUDENT}/seed1" in run.directory.as_posix())
    write(run.directory / "metrics.json", {"AP": 0.25})
    lines = [" ".join(line.split()) for line in print_status(*TINY, "--seeds", "4").splitlines()]
    digest = run.name[-8:]
    alone = [
        "alone 0 not started",
        f"{digest} alone 1 done 25.0",
        "2 runs alone 2\u20133 not started",
    ]
    first = next(place for place, line in enumerate(lines) if alone[0] in line and place > 2)
    assert all(text in line for text, line in zip(alone, lines[first : first + 3], strict=True))
    sums = ("13 runs: 1 done, 8 waiting for teacher, 4 not started", "time left: unknown until")
    assert all(text in " ".join(lines) for text in sums)


def test_the_default_study_is_that_of_the_workflow(print_status: Callable[..., str]) -> None:
    assert "gfl-r18-w0.25" in print_status()
    text = Path("configs/default.yaml").read_text()
    text = re.sub("^study: .*", "study: tiny", text, flags=re.MULTILINE)
    Path("configs/default.yaml").write_text(re.sub("(?m)^scale: .*", "scale: tiny", text))
    assert print_status() == print_status(*TINY)
    assert "seed" in print_status(*TINY, "--seeds", "2")


def test_the_option_all_adds_other_runs(print_status: Callable[..., str]) -> None:
    run = write_planned_run(TEACHER)
    assert run.name[-8:] not in print_status()
    assert run.name[-8:] in print_status("--all")


def test_an_unknown_study_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "tinny"]) == 2
    assert "did you mean 'tiny'?" in capsys.readouterr().err


@pytest.mark.parametrize("width", [80, 100, 120])
def test_lines_fit_the_terminal(
    print_status: Callable[..., str], project: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for number, contains in enumerate((TEACHER, STUDENT, DISTILLED)):
        run = write_planned_run(contains)
        submit(run, f"1234567_{number}")
        write_log(run, RECORD | {"step": 41230, "steps": 88720})
    states = ["RUNNING|node0117", "PENDING|", "RUNNING|node0118"]
    rest = "3:10:00|4:00:00|QOSMaxGRESPerUser|"
    install_squeue(project, *(f"1234567_{n}|{state}|{rest}" for n, state in enumerate(states)))
    text = print_status(*TINY, "--seeds", "2")
    lines = [line for line in text.splitlines() if "results/" not in line]
    assert max(map(len, lines)) <= width
    assert "41230/88720" in text and "1234567_2" in text
    assert ("node0117" in text) == (width >= 100)


def test_columns_are_aligned_with_and_without_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    folder = "results/runs/tiny/shapes-tiny/tiny/student"
    runs = [
        Status(f"{folder}/alone/seed0-11111111", "done", figure=0.25),
        Status(f"{folder}/rm_from_teacher/seed0-22222222", "failed", "node lost", job="57"),
        Status(f"{folder}/a-long-name-of-a-method_from_teacher/seed0-33333333", "running", step=7),
    ]
    plain = status_table(runs, QueueSnapshot())
    colored = status_table(runs, QueueSnapshot(), color=True)
    assert "\033[31mfailed\033[0m" in colored and "\033[32mdone\033[0m" in colored
    assert re.sub(r"\033\[\d+m", "", colored) == plain
    header, _, *rows = plain.splitlines()
    assert [row[header.index("state") :].split()[0] for row in (rows[0], rows[1], rows[3])] == [
        "done",
        "failed",
        "running",
    ]
    assert rows[0].endswith("  25.0") and len(rows[0]) == header.index("AP") + 2
    assert rows[1].endswith("  57  node lost")


def test_remaining_time_is_estimated_from_started_runs(print_status: Callable[..., str]) -> None:
    run = write_planned_run(TEACHER)
    write_log(run, RECORD)
    # A training takes 60 s, of which this one has 45 left; three more have not started.
    text = print_status(*TINY)
    assert "4 runs: 1 running, 2 waiting for teacher, 1 not started; about 3 m 45 s left" in text


def test_json_has_the_content_of_the_table(print_status: Callable[..., str]) -> None:
    run = write_planned_run(TEACHER)
    write_log(run, RECORD)
    content = json.loads(print_status(*TINY, "--json"))
    assert content["states"] == {"running": 1, "waiting for teacher": 2, "not started": 1}
    assert content["seconds_left"] == 225 and content["trouble"] is None
    assert len(content["runs"]) == 4


def test_json_has_the_metric_in_percent() -> None:
    snapshot = QueueSnapshot()
    content = json.loads(to_json([Status("runs/x", "done", figure=0.18612345)], snapshot))
    assert content["runs"][0]["figure"] == 18.6123
