"""The payload of a job: its command is warned in time and leaves no process behind."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import PATIENCE, gone, until
from snakemake_executor_plugin_submitit.payload import STOP_FILE, CommandError, Payload

JOB = """
import pickle, signal, sys
from pathlib import Path

payload = pickle.loads(Path("payload").read_bytes())

def on_warning(signum, frame):
    again = payload.checkpoint().function
    Path("again").write_bytes(pickle.dumps(again))
    print("finished" if again.finished else "to run again", flush=True)
    sys.exit(3)

signal.signal(signal.SIGUSR2, on_warning)
print("ready", flush=True)
payload()
"""
ANOTHER_THREAD_IS_WARNED = """
import os, signal, threading, time

def warn():
    while not os.path.exists("now"):
        time.sleep(0.01)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)

threading.Thread(target=warn, daemon=True).start()
"""
OBEDIENT = 'echo $$ > pid; until [ -e "$SNAKEMAKE_STOP_FILE" ]; do sleep 0.05; done; exit 75'
DEAF = (
    "exec > /dev/null 2>&1; trap '' TERM INT; "
    "sleep 600 & echo $! > children; echo $$ > pid; wait; sleep 600"
)


def written(name: str) -> bool:
    return Path(name).exists() and Path(name).read_text().endswith("\n")


def pids(*names: str) -> list[int]:
    return [int(word) for name in names for word in Path(name).read_text().split()]


def payload(command: str, grace: float = 30) -> Payload:
    return Payload(command, str(Path("job.stop").absolute()), grace)


class PayloadProcess:
    """A payload in a separate process, which gets submitit's warning signal."""

    def __init__(self, command: str, grace: float = 30, program: str = JOB) -> None:
        Path("payload").write_bytes(pickle.dumps(payload(command, grace)))
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"

    def signal(self, number: int) -> tuple[int, str]:
        """Send a signal; return exit status and output."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output.strip()


def test_a_successful_command_runs() -> None:
    payload("echo done > out")()
    assert Path("out").read_text() == "done\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [("exit 3", "status 3"), ("nonsuch-command", "status 127"), ("kill -KILL $$", "SIGKILL")],
)
def test_a_failed_command_is_an_error(command: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        payload(command)()


def test_the_command_gets_the_path_of_the_stop_file() -> None:
    Path("job.stop").touch()  # left by an earlier start
    payload(f'test ! -e "${STOP_FILE}" && echo "${STOP_FILE}" > path')()
    assert Path("path").read_text().strip() == str(Path("job.stop").absolute())


def test_a_payload_is_pickled_without_its_process() -> None:
    done = payload("true")
    done()
    copy = pickle.loads(pickle.dumps(done))
    assert (copy.command, copy.stop_file, copy.grace) == ("true", done.stop_file, 30)
    copy()


def test_a_warned_command_ends_and_runs_again_later() -> None:
    job = PayloadProcess(OBEDIENT)
    until(lambda: written("pid"))
    assert job.signal(signal.SIGUSR2) == (3, "to run again")
    assert gone(*pids("pid"))
    again = pickle.loads(Path("again").read_bytes())
    assert not again.finished and again.command == OBEDIENT


def test_a_warning_may_reach_any_thread() -> None:
    """The system may deliver it to a thread of numpy if the main thread has a pending signal."""
    job = PayloadProcess(OBEDIENT, program=ANOTHER_THREAD_IS_WARNED + JOB)
    until(lambda: written("pid"))
    Path("now").touch()
    output, _ = job.process.communicate(timeout=PATIENCE)
    assert (job.process.returncode, output.strip()) == (3, "to run again")


def test_a_command_that_ignores_the_warning_is_killed_with_its_children() -> None:
    job = PayloadProcess(DEAF, grace=0.5)
    until(lambda: written("pid") and written("children"))
    assert job.signal(signal.SIGUSR2) == (3, "to run again")
    until(lambda: all(map(gone, pids("pid", "children"))))


def test_background_processes_of_a_command_are_killed() -> None:
    command = f"sleep 600 & echo $! > children; {OBEDIENT.replace('exit 75', 'exit 0')}"
    job = PayloadProcess(command)
    until(lambda: written("pid"))
    assert job.signal(signal.SIGUSR2) == (3, "finished")
    until(lambda: all(map(gone, pids("children"))))


def test_a_command_that_succeeds_after_the_warning_is_not_run_again() -> None:
    job = PayloadProcess(f"echo ran >> runs; {OBEDIENT.replace('exit 75', 'exit 0')}")
    until(lambda: written("pid"))
    assert job.signal(signal.SIGUSR2) == (3, "finished")
    pickle.loads(Path("again").read_bytes())()
    assert Path("runs").read_text() == "ran\n"


def test_an_interrupt_ends_the_command() -> None:
    job = PayloadProcess("sleep 600 & echo $! > children; echo $$ > pid; wait")
    until(lambda: written("pid"))
    assert job.signal(signal.SIGINT)[0] != 0
    until(lambda: all(map(gone, pids("pid", "children"))))


@pytest.fixture
def _no_orphans() -> Iterator[None]:
    yield
    for pid in pids("pid", "children"):
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.usefixtures("_no_orphans")
def test_an_interrupt_ends_a_command_that_ignores_signals() -> None:
    job = PayloadProcess(DEAF, grace=0.5)
    until(lambda: written("pid") and written("children"))
    job.signal(signal.SIGINT)
    until(lambda: all(map(gone, pids("pid", "children"))))


def test_a_warning_before_the_start_runs_the_command_again() -> None:
    assert not payload("true").checkpoint().function.finished


@pytest.fixture
def in_a_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the environment of submitit's job 57; return the path of its result file."""
    for name, value in {
        "SUBMITIT_FOLDER": str(folder), "SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "57",
        "SLURM_PROCID": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return folder / "57_0_result.pkl"


def test_the_error_of_an_earlier_start_is_removed(in_a_job: Path) -> None:
    in_a_job.write_bytes(pickle.dumps(("error", "preempted")))
    payload("true")()
    assert not in_a_job.exists()


def test_a_result_half_written_by_an_earlier_start_is_removed(in_a_job: Path) -> None:
    half = in_a_job.with_name(in_a_job.name + ".save_tmp")
    half.touch()
    payload("true")()
    assert not half.exists()


def test_a_warned_job_that_succeeds_writes_its_result_before_it_is_requeued(
    in_a_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node may be lost while the requeue waits for the controller."""
    results: list[object] = []

    def responds(seconds: float) -> bool:
        results.append(pickle.loads(in_a_job.read_bytes()))
        return False

    monkeypatch.setattr("snakemake_executor_plugin_submitit.slurm.responds", responds)
    warned = payload("touch done")
    warned._child = subprocess.Popen(["/bin/true"])
    assert warned.checkpoint().function.finished
    assert results == [("success", None)]
    payload("touch again")()
    assert not Path("again").exists()


def test_a_warned_job_that_may_not_be_requeued_ends_with_an_error(in_a_job: Path) -> None:
    warned = payload("sleep 60")
    warned.requeue = False
    warned._child = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    warned.grace = 0.1
    assert warned.checkpoint() is None  # submitit raises an error then
    assert warned._child.wait() == -signal.SIGKILL
    assert not in_a_job.exists()


def test_a_warned_job_that_succeeds_and_may_not_be_requeued_ends_with_success(
    in_a_job: Path,
) -> None:
    warned = payload("true")
    warned.requeue = False
    warned._child = subprocess.Popen(["/bin/true"])
    with pytest.raises(SystemExit) as end:
        warned.checkpoint()
    assert end.value.code == 0
    assert pickle.loads(in_a_job.read_bytes()) == ("success", None)


def test_a_requeued_job_that_has_succeeded_does_not_run_again(in_a_job: Path) -> None:
    """Slurm requeues it if its node or the controller fails before Slurm records its end."""
    in_a_job.write_bytes(pickle.dumps(("success", None)))
    payload("touch again")()
    assert in_a_job.exists() and not Path("again").exists()
