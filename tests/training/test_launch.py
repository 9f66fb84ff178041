"""One training on several processes that `kd train --processes` starts on this machine."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kd.cli.main import main
from kd.training.launch import FAILURE, forget_failures
from tests.support.processes import until
from tests.support.tiny import STUDENT, copy_run, kd, make_project, write_run
from tests.support.training import change, logged


@pytest.fixture(scope="module", autouse=True)
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Work in a tiny project; return a run that no process trains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        yield write_run(STUDENT)


@pytest.fixture
def run(composed: Path, request: pytest.FixtureRequest) -> Path:
    """Return an untrained run, named after the test."""
    return copy_run(composed, request.node.name)


@pytest.fixture
def long(run: Path) -> Path:
    """Return a run that does not end by itself."""
    change(run, lambda config: config["train_cfg"].update(max_epochs=1000))
    return run


def process_of(parent: int, rank: int) -> int:
    """Return the id of a process of the group."""
    variable = f"RANK={rank}".encode()
    (process,) = (
        int(pid)
        for pid in children(parent)
        if variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    )
    return process


def children(parent: int) -> list[str]:
    return Path(f"/proc/{parent}/task/{parent}/children").read_text().split()


def gone(pid: str) -> bool:
    """Return True if a process has ended, even if its parent has not waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_two_processes_train_a_run_and_one_speaks(run: Path) -> None:
    process = kd("train", run, "--processes", "2")
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    first, *progress = output.splitlines()
    assert first == (
        "batch 4 = 2 on each of 2 processes; learning rate 0.01 (schedule's, for the whole batch)"
    )
    assert [line.split("step ")[1].split()[0] for line in progress] == ["1/12", "12/12"]
    assert json.loads((run / "provenance.json").read_text())["steps"] == 12


def test_one_process_says_what_it_trains_with(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(run), "--processes", "1"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "batch 4; learning rate 0.01 (schedule's, for the whole batch)"


def test_a_batch_that_cannot_be_shared_is_refused_at_once(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(run), "--processes", "3"]) == 2
    assert capsys.readouterr().err == (
        f"error: {run}/config.json: a total batch of 4 cannot be shared by 3 processes; "
        "change --processes\n"
    )


@pytest.mark.parametrize("count", ["0", "two"])
def test_a_number_of_processes_that_is_none(
    run: Path, count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(run), "--processes", count]) == 2
    assert capsys.readouterr().err.startswith("error: argument --processes: ")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_others_and_is_named(long: Path, rank: int) -> None:
    process = kd("train", long, "--processes", "2")
    until(lambda: logged(long) > 0)
    group = children(process.pid)
    os.kill(process_of(process.pid, rank), signal.SIGKILL)
    _, errors = process.communicate()
    line = f"process {rank} of 2 was killed by signal 9"
    assert process.returncode == 128 + signal.SIGKILL
    assert errors.splitlines()[-1] == f"error: {line}"
    assert "Traceback" not in errors
    assert json.loads((long / "failure.json").read_text())["reason"] == line
    assert all(map(gone, group))


def test_a_failure_of_all_processes_is_told_once_and_can_be_mended(run: Path) -> None:
    config = (run / "config.json").read_text()
    change(run, lambda config: config["optim_wrapper"]["optimizer"].update(lr=1e30))
    process = kd("train", run, "--processes", "2")
    _, errors = process.communicate()
    (line,) = errors.splitlines()
    assert process.returncode == 2
    assert line == f"error: {json.loads((run / 'failure.json').read_text())['reason']}"

    (run / "config.json").write_text(config)
    assert kd("train", run, "--processes", "2").wait() == 0
    assert not (run / "failure.json").exists()


@pytest.mark.parametrize("port", ["1", "2"])
def test_what_a_process_of_this_start_failed_of_outlives_the_first_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    """A process that is faster than the first one has failed before that begins."""
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    from kd.training.train import _recorded

    assert isinstance(_recorded(tmp_path, ValueError("no GPU")), ValueError)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_PORT", port)
    forget_failures(tmp_path)
    same = port == "1"
    assert (tmp_path / FAILURE).exists() == same
    later = _recorded(tmp_path, RuntimeError("lost the others"))
    assert isinstance(later, SystemExit if same else RuntimeError)
    reason = json.loads((tmp_path / FAILURE).read_text(encoding="utf-8"))["reason"]
    assert reason == ("no GPU" if same else "lost the others")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_ending_the_command_ends_its_processes(long: Path, sign: signal.Signals) -> None:
    process = kd("train", long, "--processes", "2")
    until(lambda: logged(long) > 0)
    group = children(process.pid)
    assert len(group) == 2
    process.send_signal(sign)
    _, errors = process.communicate()
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9, signal.SIGINT: 130}[sign]
    assert "Traceback" not in errors
    until(lambda: all(map(gone, group)))
    assert not (long / "failure.json").exists()
