"""``kd status``: where every run is, from files, the ledger and the queue."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snakemake_executor_plugin_submitit.ledger import Entry, new_batch

from kd.cli.commands import main
from kd.common.durations import duration
from kd.config.library import Library
from kd.config.plan import plan
from kd.monitoring.failures import record_failures
from kd.monitoring.slurm_reasons import seconds, why_pending
from kd.training.run_lock import FILE, held
from tests.support.tiny import DISTILLED, STUDENT, TEACHER, make_project
from tests.test_imports import COMMAND_LINE, heavy_modules

TINY = ["tiny", "--scale", "tiny"]
STEPS, BATCH, RATE = 120, 4, 8.0
RECORD = {"step": 30, "steps": STEPS, "epoch": 1, "images_per_second": RATE}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a project without data in which nothing has run and no Slurm is asked."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def run_of(contains: str) -> Path:
    runs = plan("tiny", "tiny", Library()).runs
    (run,) = (run for name, run in runs.items() if contains in name)
    run.write()
    return run.directory


def write(path: Path, content: Any = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content) + "\n")


def log(run: Path, record: dict[str, Any], age: float = 0) -> None:
    """Write the last record of a training's log, as of some seconds ago."""
    write(run / "log.jsonl", record)
    write(run / "train.log", "epoch 1\n")
    for name in ("log.jsonl", "train.log"):
        os.utime(run / name, (time.time() - age,) * 2)


def submit(run: Path, id: str | None, rule: str = "train", **more: Any) -> Entry:
    """Put a job for a run into the ledger."""
    output = {"predict": "detections.json.gz"}.get(rule, "weights.pth")
    entry = Entry("key", "digest", rule, {"run": run.name}, [str(run / output)], [])
    batch = new_batch(more.pop("cluster", "slurm"), [entry])
    entry.id, entry.log = id, "logs/slurm/train/job_log.out"
    for name, value in more.items():
        setattr(entry, name, value)
    batch.write()
    return entry


def squeue(project: Path, *lines: str, status: int = 0) -> Path:
    """Install a ``squeue`` that answers so; return the file that counts its calls."""
    calls, script = project / "calls", project / "bin" / "squeue"
    answer = "\n".join(lines)
    write(project / "answer", answer + "\n" if answer else "")
    text = f"#!/bin/sh\necho call >> {calls}\n"
    text += f"echo 'squeue: error: {answer}' >&2; exit {status}\n" if status else ""
    text += f'while read -r line; do echo "$line"; done < {project / "answer"}\n'
    write(script, text)
    script.chmod(0o755)
    return calls


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what a command prints."""

    def show(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["status", *arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return show


@pytest.fixture
def state(shown: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Return what is said of a run."""

    def state_of(run: Path, *arguments: str) -> dict[str, Any]:
        runs = json.loads(shown("--json", *(arguments or TINY)))["runs"]
        (found,) = (one for one in runs if one["run"] == str(run))
        return found

    return state_of


# Without a cluster


def test_nothing_has_run(shown: Callable[..., str]) -> None:
    lines = shown(*TINY)
    assert "results/runs/tiny/shapes-tiny/tiny/retinanet-r18-w0.125  from retinanet-r18" in lines
    assert lines.count("not started") == 3  # two of them lines, one in the sum
    assert lines.count("waiting for teacher retinanet-r18-w0.1875\n") == 2
    assert "4 runs: 2 waiting, 2 not started" in lines


def test_seeds_to_which_nothing_happens_share_a_line(shown: Callable[..., str]) -> None:
    lines = shown(*TINY, "--seeds", "4").splitlines()
    assert [" ".join(line.split()) for line in lines if " runs " in line[:12]] == [
        "4 runs alone 0\u20133 not started \u2013",
        "4 runs rm 0\u20133 waiting for teacher retinanet-r18-w0.1875",
        "4 runs rm+pfi 0\u20133 waiting for teacher retinanet-r18-w0.1875",
    ]
    runs = plan("tiny", "tiny", Library(), 4).runs.values()
    (run,) = (run for run in runs if f"/{STUDENT}/seed1" in run.directory.as_posix())
    write(run.directory / "metrics.json", {"AP": 0.25})
    lines = [" ".join(line.split()) for line in shown(*TINY, "--seeds", "4").splitlines()]
    digest = run.name[-8:]
    alone = [
        "alone 0 not started",
        f"{digest} alone 1 done 25.0",
        "2 runs alone 2\u20133 not started",
    ]
    first = next(place for place, line in enumerate(lines) if alone[0] in line and place > 2)
    assert all(text in line for text, line in zip(alone, lines[first : first + 3], strict=True))
    sums = ("13 runs: 1 done, 8 waiting, 4 not started", "time left: unknown before")
    assert all(text in " ".join(lines) for text in sums)


def test_a_run_goes_through_its_states(state: Callable[..., dict[str, Any]]) -> None:
    run = run_of(TEACHER)
    assert state(run)["state"] == "not started"
    log(run, RECORD)
    found = state(run)
    assert found["state"] == "running" and found["log"] == f"{run}/train.log"
    assert (found["step"], found["steps"], found["epoch"], found["epochs"]) == (30, STEPS, 1, 2)
    assert found["seconds_left"] == (STEPS - 30) * BATCH / RATE
    assert found["figure"] is None
    write(run / "validation.jsonl", '{"epoch": 1, "step": 6, "AP": 0.21}\n')
    log(run, RECORD, age=300)
    assert (state(run)["state"], state(run)["figure"]) == ("interrupted", 0.21)
    write(run / "weights.pth")
    assert state(run)["state"] == "trained"
    write(run / "predict.log")
    assert state(run)["state"] == "evaluating"
    write(run / "metrics.json", {"AP": 0.3612})
    found = state(run)
    assert (found["state"], found["figure"]) == ("done", 0.3612)


def test_a_training_that_is_silent_for_long_is_running_while_it_lives(
    state: Callable[..., dict[str, Any]],
) -> None:
    run = run_of(TEACHER)
    log(run, RECORD, age=1000)
    assert state(run)["state"] == "interrupted"
    with held(run):
        assert state(run)["state"] == "running"
    assert state(run)["state"] == "interrupted"
    with held(run):
        os.utime(run / FILE, (time.time() - 1000,) * 2)  # it was killed long ago
        assert state(run)["state"] == "interrupted"


def test_a_log_that_is_being_written_is_read_to_its_last_whole_record(
    state: Callable[..., dict[str, Any]],
) -> None:
    run = run_of(TEACHER)
    write(run / "log.jsonl", json.dumps(RECORD) + '\n{"step": 40, "ste')
    assert state(run)["step"] == 30


def test_a_student_waits_for_its_teacher(state: Callable[..., dict[str, Any]]) -> None:
    teacher, student = run_of(TEACHER), run_of(DISTILLED)
    write(teacher / "failure.json", {"kind": "OSError", "reason": "disk full"})
    assert state(teacher)["note"] == "OSError: disk full"
    assert state(student)["note"] == "for teacher retinanet-r18-w0.1875, which failed"
    write(teacher / "weights.pth")
    assert state(student)["state"] == "not started"


def test_the_workflow_says_which_study_is_meant(shown: Callable[..., str]) -> None:
    assert "gfl-r18-w0.25" in shown()
    text = Path("configs/default.yaml").read_text()
    text = re.sub("^study: .*", "study: tiny", text, flags=re.MULTILINE)
    Path("configs/default.yaml").write_text(re.sub("(?m)^scale: .*", "scale: tiny", text))
    assert shown() == shown(*TINY)
    assert "seed" in shown(*TINY, "--seeds", "2")


def test_other_runs_are_shown_on_request(shown: Callable[..., str]) -> None:
    run = run_of(TEACHER)
    assert run.name[-8:] not in shown()
    assert run.name[-8:] in shown("--all")


def test_a_study_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "tinny"]) == 2
    assert "did you mean 'tiny'?" in capsys.readouterr().err


def test_no_torch_is_imported() -> None:
    assert heavy_modules(COMMAND_LINE, "status", *TINY) == set()


# With jobs


@pytest.mark.parametrize(
    ("line", "expected", "note"),
    [
        ("57|PENDING||0:00|1:00:00|Resources|", "pending", "waits for free nodes (Resources)"),
        ("57|PENDING||0:00|1:00|BeginTime|", "requeued", "starts again shortly (BeginTime)"),
        ("57|RUNNING|lab1|1:00|1-00:00:00|None|", "running", ""),
        ("57|RUNNING|lab1|59:30|1:00:00|None|", "running", "time limit in 30 s"),
        ("57|CONFIGURING|lab1|0:01|1:00:00|None|", "starting", ""),
        ("57|SUSPENDED|lab1|0:01|1:00:00|None|", "suspended", ""),
        ("57|OUT_OF_MEMORY|lab1|0:01|1:00:00|None|", "ended", "out of memory (Slurm says"),
        ("58|RUNNING|lab1|0:01|1:00:00|None|", "interrupted", "job 57 has left the queue"),
    ],
)
def test_a_job_in_the_queue(
    state: Callable[..., dict[str, Any]], project: Path, line: str, expected: str, note: str
) -> None:
    run = run_of(TEACHER)
    submit(run, "57")
    if not line.startswith("57|PENDING"):
        log(run, RECORD, age=300)
    calls = squeue(project, line)
    found = state(run)
    assert found["state"] == expected
    assert found["note"].startswith(note) and bool(note) == bool(found["note"])
    assert found["job"] == "57" and found["slurm_log"] == "logs/slurm/train/job_log.out"
    assert calls.read_text() == "call\n"


def test_a_job_that_has_trained_and_waits_again_was_requeued(
    state: Callable[..., dict[str, Any]], project: Path
) -> None:
    run = run_of(TEACHER)
    submit(run, "57_3")
    log(run, RECORD, age=300)
    squeue(project, "57_3|PENDING||0:00|1:00:00|Priority|")
    found = state(run)
    assert (found["state"], found["step"]) == ("requeued", 30)


def test_a_prediction_is_an_evaluation(state: Callable[..., dict[str, Any]], project: Path) -> None:
    run = run_of(TEACHER)
    write(run / "weights.pth")
    submit(run, "57", "predict")
    squeue(project, "57|RUNNING|lab1|0:01|1:00:00|None|")
    assert state(run)["state"] == "evaluating"


def test_jobs_of_another_study_are_shown_unless_one_is_named(
    shown: Callable[..., str], state: Callable[..., dict[str, Any]], project: Path
) -> None:
    run = run_of(TEACHER)
    submit(run, "57")
    squeue(project, "57|RUNNING|lab1|0:01|1:00:00|None|")
    assert state(run, "--scale", "smoke")["state"] == "running"
    assert run.name not in shown("rm_pfi", "--scale", "smoke")


def test_jobs_that_train_nothing_are_shown_below(shown: Callable[..., str], project: Path) -> None:
    submit(Path("results/crops/voc-12345678"), "57_0", "crops")
    submit(Path("results/crops/coco-12345678"), "58", "crops")
    squeue(project, "57_0|PENDING||0:00|1:00:00|Priority|", "58|RUNNING|lab1|0:01|1:00:00|None|")
    lines = shown(*TINY).splitlines()
    below = lines[lines.index("other jobs") + 1 :]
    assert "  crops run=coco-12345678  running  job 58" in below
    (waiting,) = (line for line in below if "57_0" in line)
    assert waiting.endswith("waits behind jobs of higher priority (Priority)")


def test_a_silent_queue_is_told_and_files_are_shown(
    shown: Callable[..., str], state: Callable[..., dict[str, Any]], project: Path
) -> None:
    run, other = run_of(TEACHER), run_of(STUDENT)
    submit(run, "57")
    submit(other, "58")
    log(run, RECORD)
    squeue(project, "Unable to contact slurm controller", status=1)
    assert "Slurm does not answer" in shown(*TINY)
    assert state(run)["state"] == "running"
    assert state(other)["state"] == "submitted"


def test_squeue_is_not_called_for_nothing(shown: Callable[..., str], project: Path) -> None:
    calls = squeue(project)
    shown(*TINY)
    submit(run_of(TEACHER), "57", verdict={"cause": "cancelled", "text": "cancelled"})
    submit(run_of(STUDENT), "1", cluster="local")
    shown(*TINY)
    assert not calls.exists()


def test_a_failure_is_told_with_its_cause(state: Callable[..., dict[str, Any]]) -> None:
    run = run_of(TEACHER)
    submit(run, "57", verdict={"cause": "node lost", "text": "node lab1 failed"})
    found = state(run)
    assert (found["state"], found["note"]) == ("failed", "node lost: node lab1 failed")


def test_an_older_failure_does_not_hide_a_job(
    state: Callable[..., dict[str, Any]], project: Path
) -> None:
    run = run_of(TEACHER)
    submit(run, "57", verdict={"cause": "cancelled", "text": "cancelled"})
    submit(run, "58")
    squeue(project, "58|RUNNING|lab1|0:01|1:00:00|None|")
    assert state(run)["state"] == "running"


def test_killed_trainings_leave_their_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed, excepted, predicted = run_of(TEACHER), run_of(STUDENT), run_of(DISTILLED)
    memory = {"cause": "out of memory", "text": "out of memory: asked for 3000 MB"}
    for run in (killed, excepted):
        submit(run, "57", verdict=memory)
    submit(predicted, "58", "predict", verdict=memory)
    own = {"kind": "ValueError", "reason": "its own"}
    write(excepted / "failure.json", own)
    assert record_failures() == [killed / "failure.json"]
    assert json.loads((excepted / "failure.json").read_text()) == own
    assert not (predicted / "failure.json").exists()
    assert record_failures() == []
    assert main(["table", *TINY]) == 0
    assert "failed: out of memory: asked for 3000 MB" in capsys.readouterr().out


# What it looks like


@pytest.mark.parametrize("width", [80, 100, 120])
def test_lines_fit_the_terminal(
    shown: Callable[..., str], project: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for number, contains in enumerate((TEACHER, STUDENT, DISTILLED)):
        run = run_of(contains)
        submit(run, f"1234567_{number}")
        log(run, RECORD | {"step": 41230, "steps": 88720})
    places = ["RUNNING|node0117", "PENDING|", "RUNNING|node0118"]
    rest = "3:10:00|4:00:00|QOSMaxGRESPerUser|"
    squeue(project, *(f"1234567_{n}|{place}|{rest}" for n, place in enumerate(places)))
    text = shown(*TINY, "--seeds", "2")
    lines = [line for line in text.splitlines() if "results/" not in line]
    assert max(map(len, lines)) <= width
    assert "41230/88720" in text and "1234567_2" in text
    assert ("node0117" in text) == (width >= 100)


def test_how_long_it_takes(shown: Callable[..., str]) -> None:
    run = run_of(TEACHER)
    log(run, RECORD)
    # 60 s for the whole training, of which 45 are left; three more have not begun.
    assert "4 runs: 1 running, 2 waiting, 1 not started; about 3 m 45 s left" in shown(*TINY)


def test_json_is_what_the_table_says(shown: Callable[..., str]) -> None:
    run = run_of(TEACHER)
    log(run, RECORD)
    content = json.loads(shown(*TINY, "--json"))
    assert content["states"] == {"running": 1, "waiting": 2, "not started": 1}
    assert content["seconds_left"] == 225 and content["trouble"] is None
    assert len(content["runs"]) == 4


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("QOSMaxGRESPerUser", "your limit of this QOS is reached"),
        ("AssocGrpCPUMinutesLimit", "the account's share is used up"),
        ("ReqNodeNotAvail, UnavailableNodes:lab1", "the nodes it needs are down"),
        ("Nodes_required_for_job_are_DOWN,_DRAINED", "the nodes it needs are down"),
        ("DependencyNeverSatisfied", "waits for a job that failed"),
        ("Dependency", "waits for another job"),
        ("BurstBufferStageIn", "BurstBufferStageIn"),
    ],
)
def test_reasons_are_plain_words(reason: str, words: str) -> None:
    assert why_pending(reason).startswith(words)


def test_times() -> None:
    clocks = ["1-02:03:04", "3:10:00", "45:10", "0:07", "UNLIMITED", ""]
    assert [seconds(clock) for clock in clocks] == [93784, 11400, 2710, 7, None, None]
    times = [59.6, 3599, 15000, 200000]
    assert [duration(time) for time in times] == ["1 m 00 s", "59 m 59 s", "4 h 10 m", "2 d 07 h"]
