"""``kd logs``: the choice of a run, its last lines, and following its log until the run ends."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kd.cli.main import main
from tests.support.processes import PATIENCE
from tests.support.tiny import DISTILLED, STUDENT, TEACHER, kd, write_run

RECORD = {"step": 30, "steps": 120, "epoch": 1, "images_per_second": 8.0}


@pytest.fixture
def run() -> Path:
    """Write the files of a training in progress; return its directory."""
    directory = write_run(TEACHER)
    (directory / "log.jsonl").write_text(json.dumps(RECORD) + "\n")
    (directory / "train.log").write_text("".join(f"line {n}\n" for n in range(100)))
    return directory


@pytest.fixture
def following(run: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts ``kd logs`` on the run."""
    processes = []

    def follow(*arguments: str) -> subprocess.Popen[str]:
        process = kd("logs", str(run), *arguments)
        processes.append(process)
        return process

    yield follow
    for process in processes:
        process.kill()
        process.communicate()


def append(path: Path, text: str) -> None:
    with open(path, "a") as stream:
        stream.write(text)


def finish(run: Path) -> None:
    (run / "weights.pth").touch()
    (run / "provenance.json").write_text("{}")


def test_the_last_lines_and_the_paths_of_the_logs_are_printed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "failure.json").write_text(json.dumps({"kind": "OSError", "reason": "disk full"}))
    assert main(["logs", str(run), "--lines", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "line 98\nline 99\n"
    assert f"training log:   {run}/train.log" in printed.err
    assert f"failure:        {run}/failure.json" in printed.err
    assert "state:          failed: OSError: disk full" in printed.err


def test_the_option_no_follow_prints_the_last_lines_only(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", str(run), "--no-follow", "--lines", "0"]) == 0
    assert capsys.readouterr().out == ""


def test_appended_lines_are_printed_until_the_run_ends(
    run: Path, following: Callable[..., subprocess.Popen[str]]
) -> None:
    process = following("--lines", "1")
    assert process.stdout and process.stdout.readline() == "line 99\n"
    append(run / "train.log", "step 31\n")
    assert process.stdout.readline() == "step 31\n"
    append(run / "train.log", "the end\n")
    finish(run)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (output, process.returncode) == ("the end\n", 0)
    assert errors.endswith("state:          not started: trained, evaluation not started\n")


def test_a_replaced_or_truncated_log_is_printed_from_its_start(
    run: Path, following: Callable[..., subprocess.Popen[str]]
) -> None:
    process = following("--lines", "1")
    assert process.stdout and process.stdout.readline() == "line 99\n"
    (run / "new").write_text("replaced\n")
    os.replace(run / "new", run / "train.log")
    assert process.stdout.readline() == "replaced\n"
    (run / "train.log").write_text("cut\n")
    assert process.stdout.readline() == "cut\n"


def test_ctrl_c_ends_following_with_exit_status_0(
    following: Callable[..., subprocess.Popen[str]],
) -> None:
    process = following("--lines", "1")
    assert process.stdout and process.stdout.readline() == "line 99\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0


def test_ctrl_c_ends_watching_with_exit_status_0(run: Path) -> None:
    process = kd("status", "tiny", "--scale", "tiny", "--watch", "1")
    assert process.stdout
    for _ in range(2):  # two displays
        while "4 runs:" not in process.stdout.readline():
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0


def test_a_run_without_a_log_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(TEACHER)
    assert main(["logs", str(run)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and "train.log: not written yet" in printed.err


def test_a_training_started_by_hand_has_its_step_log_printed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "train.log").unlink()
    os.utime(run / "log.jsonl", (time.time() - 300,) * 2)
    assert main(["logs", str(run)]) == 0
    assert json.loads(capsys.readouterr().out) == RECORD


def test_a_run_is_found_by_parts_of_its_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(DISTILLED)
    for words in ([run.name], [run.name[-8:]], ["retinanet-r18-w0.1875/alone", "seed0"]):
        assert main(["logs", *words, "--no-follow"]) == 0
        assert f"{run}/train.log" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["alone"], "'alone' matches 2 runs"),
        (["rm+pfy"], "did you mean runs/tiny/shapes-tiny/tiny/retinanet-r18-w0.125/rm+pfi_from"),
        (["zzz"], "`kd status` lists them"),
        (["results/tiny"], "`kd status` lists them"),
    ],
)
def test_a_name_that_matches_no_run_or_several_is_an_error(
    run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(STUDENT)
    write_run(DISTILLED)
    assert main(["logs", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
