"""Calls of Slurm's commands: their output is parsed, and their failures are errors."""

import getpass
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from snakemake_executor_plugin_submitit import slurm
from snakemake_executor_plugin_submitit.slurm import SlurmError

Command = Callable[..., Path]


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that installs a fake command and returns the file of its calls."""
    monkeypatch.setenv("PATH", f"{folder}/bin")
    (folder / "bin").mkdir()

    def install(name: str, answer: str = "", complaint: str = "", status: int = 0) -> Path:
        calls = folder / f"{name}.calls"
        script = f"#!/bin/sh\necho \"$@\" >> '{calls}'\n"
        script += f"printf '%s' '{answer}'\nprintf '%s' '{complaint}' >&2\nexit {status}\n"
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
        return calls

    return install


def test_the_queue_is_read_in_one_call(command: Command) -> None:
    calls = command(
        "squeue",
        "57|RUNNING|lab1|1:02:03|2:00:00|None|snakemake:b1\n"
        "58_0|PENDING||0:00|1:00|Resources|snakemake:b2\n"
        "58_1|COMPLETED|lab[1-2]|0:10|1:00|None|a comment|with a bar\n"
        "slurm_load_jobs warning\n",
    )
    queue = slurm.queue()
    assert list(queue) == ["57", "58_0", "58_1"]
    assert (queue["57"].node, queue["57"].elapsed, queue["57"].limit) == (
        "lab1",
        "1:02:03",
        "2:00:00",
    )
    assert (queue["58_0"].reason, queue["58_0"].live) == ("Resources", True)
    assert queue["58_1"].comment == "a comment|with a bar" and not queue["58_1"].live
    (call,) = calls.read_text().splitlines()
    assert "--states=all" in call and " -r " in f" {call} "


def test_a_queue_without_jobs_is_empty(command: Command) -> None:
    command("squeue")
    assert slurm.queue() == {}


def test_all_commands_name_another_cluster(command: Command) -> None:
    calls = [command(name) for name in ("squeue", "sacct", "scancel")]
    slurm.queue("far")
    slurm.accounted(["57"], "far")
    slurm.cancel(["57"], "far")
    assert all("--clusters=far" in call.read_text() for call in calls)


def test_a_silent_controller_is_an_error_and_not_an_empty_queue(command: Command) -> None:
    words = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    command("squeue", complaint=words + "\n", status=1)
    with pytest.raises(SlurmError, match=r"^slurm_load_jobs error: Unable to contact") as silent:
        slurm.queue()
    assert str(silent.value) == words


def test_a_missing_command_is_an_error(command: Command) -> None:
    with pytest.raises(SlurmError, match="squeue: command not found"):
        slurm.queue()


def test_the_queue_is_that_of_the_current_user(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = command("squeue")
    user = getpass.getuser()
    monkeypatch.setenv("LOGNAME", "somebody-else")
    slurm.queue()
    assert "--me" in calls.read_text() or user in calls.read_text()


def test_accounting_has_the_states_of_a_job_and_its_steps(command: Command) -> None:
    command(
        "sacct",
        "57|FAILED|1:0|lab1\n57.batch|OUT_OF_MEMORY|0:125|lab1\n57.0|CANCELLED by 0|0:9|lab1\n"
        "58_1|CANCELLED by 1000|0:0|None assigned\n",
    )
    records = slurm.accounted(["57", "58_1", "59"])
    assert records["57"].states == ("FAILED", "OUT_OF_MEMORY", "CANCELLED")
    assert (records["57"].exit_code, records["57"].node) == ("1:0", "lab1")
    assert records["58_1"].states == ("CANCELLED",)
    assert "59" not in records


@pytest.mark.parametrize("installed", [True, False])
def test_without_accounting_there_are_no_records(installed: bool, command: Command) -> None:
    if installed:
        command("sacct", complaint="Slurm accounting storage is disabled\n", status=1)
    assert slurm.accounted(["57"]) == {}


def test_accounting_is_read_for_a_hundred_jobs_at_a_time(command: Command) -> None:
    calls = command("sacct")
    slurm.accounted([str(number) for number in range(250)])
    lines = calls.read_text().splitlines()
    queries = [line.split("-j ")[1].split(",") for line in lines]
    assert sorted(map(len, queries)) == [50, 100, 100]
    assert sorted(int(id) for ids in queries for id in ids) == list(range(250))


def test_records_read_before_a_failed_call_are_returned(command: Command, folder: Path) -> None:
    """The call for the first 100 of 150 jobs succeeds, and the second call fails."""
    command("sacct")
    script = "#!/bin/sh\n[ -e asked ] && { echo 'sacct: error' >&2; exit 1; }\n: > asked\n"
    answers = "".join(f"echo '{number}|COMPLETED|0:0|lab1'\n" for number in range(100, 200))
    (folder / "bin" / "sacct").write_text(script + answers, encoding="utf-8")
    records = slurm.accounted([str(number) for number in range(100, 250)])
    assert sorted(records) == [str(number) for number in range(100, 200)]


def test_all_jobs_are_cancelled(command: Command) -> None:
    calls = command("scancel")
    slurm.cancel([f"57_{number}" for number in range(150)])
    assert len(calls.read_text().split()) == 150


def test_a_failed_cancellation_does_not_block_the_others(command: Command) -> None:
    complaint = "scancel: error: Kill job error on job id 3: Invalid job id specified\n"
    calls = command("scancel", complaint=complaint, status=1)
    with pytest.raises(SlurmError, match="Invalid job id"):
        slurm.cancel([str(number) for number in range(150)])
    assert len(calls.read_text().split()) == 150


@pytest.mark.parametrize(
    ("answer", "up"),
    [
        ("Slurmctld(primary) at login1 is UP", True),
        ("Slurmctld(primary) at a is DOWN\nSlurmctld(backup) at b is UP", True),
        ("Slurmctld(primary) at login1 is DOWN", False),
    ],
)
def test_the_controller_responds_if_one_of_its_hosts_is_up(
    answer: str, up: bool, command: Command
) -> None:
    command("scontrol", answer + "\n")
    assert slurm.responds(0) is up


def test_calls_are_counted(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("squeue")
    before = slurm.calls["squeue"]
    slurm.queue()
    slurm.queue()
    assert slurm.calls["squeue"] == before + 2


def test_variables_of_a_surrounding_job_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SBATCH_PARTITION", "SLURM_CONF"):
        monkeypatch.setenv(name, "1")
    assert slurm.leave_allocation()
    left = [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]
    assert left == ["SLURM_CONF"]
    assert not slurm.leave_allocation()
