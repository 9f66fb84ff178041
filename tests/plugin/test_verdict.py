"""What became of a job, from what a cluster says of one."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from snakemake_executor_plugin_submitit import verdict
from snakemake_executor_plugin_submitit.ledger import Entry
from snakemake_executor_plugin_submitit.slurm import TERMINAL, Accounted, Queued
from snakemake_executor_plugin_submitit.verdict import ACTIVE, DOUBT, FAILURE, SUCCESS, judge

from tests.plugin.jobs import queued

SUBMITTED = "2026-05-04T10:00:00+00:00"
TIME_OF_SUBMISSION = 1777888800
WELL = ("success", "")
TRACEBACK = """Traceback (most recent call last):
  File "submission.py", line 55, in process_job
    result = delayed.result()
snakemake_executor_plugin_submitit.payload.CommandError: the command ended with status 1
"""
BADLY = ("error", TRACEBACK)
SNAKEMAKE = """Traceback (most recent call last):
  File "train.py", line 3, in <module>
    raise ValueError("the loss is nan")
ValueError: the loss is nan
RuleException:
CalledProcessError in file "Snakefile", line 4:
Command 'set -euo pipefail; python train.py' returned non-zero exit status 1.
Error in rule train:
    message: None
Shutting down, this might take some time.
WorkflowError:
At least one job did not complete successfully.
submitit ERROR (2026-05-04 10:00:09,123) - Submitted job triggered an exception
"""


def entry(log: str = "", own: str = "", own_age: float = 0) -> Entry:
    """Return an entry whose job and rule have printed something, the rule ``own_age`` s ago."""
    made = Entry("key", "digest", "train", {"run": "one"}, ["out"], ["train.log"], mem_mb=3000)
    made.id, made.log, made.submitted = "57", "57_0_log.out", SUBMITTED
    Path(made.log).write_text(log)
    if own:
        Path("train.log").write_text(own)
        os.utime("train.log", (TIME_OF_SUBMISSION - own_age,) * 2)
    return made


def accounted(*states: str, exit_code: str = "0:0", node: str = "lab2") -> Accounted:
    return Accounted(states, exit_code, node)


def ended(
    outcome: tuple[str, str] | None = None,
    queue: Queued | None = None,
    memory: Accounted | None = None,
    **logs: Any,
) -> tuple[str, str]:
    """Return state and cause."""
    found = judge(entry(**logs), outcome, queue, memory)
    assert "\n" not in found.text
    return found.state, found.cause


@pytest.mark.parametrize("state", sorted(TERMINAL | {"RUNNING", "PENDING", "COMPLETING"}))
def test_a_result_of_success_is_final_whatever_slurm_says(state: str) -> None:
    assert ended(WELL, queued("57", state))[0] == SUCCESS


@pytest.mark.parametrize(
    "state",
    ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUE_HOLD", "REQUEUED",
     "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT"],
)  # fmt: skip
def test_an_error_that_an_earlier_start_left_is_not_that_of_a_live_job(state: str) -> None:
    assert ended(BADLY, queued("57", state), accounted("NODE_FAIL"))[0] == ACTIVE
    assert ended(BADLY, queued("57", state), log="slurmstepd: error: memory limit")[0] == ACTIVE


@pytest.mark.parametrize("state", ["COMPLETED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED"])
def test_what_may_still_be_requeued_or_have_a_result_is_doubt(state: str) -> None:
    assert ended(None, queued("57", state))[0] == DOUBT
    assert ended(None, None, accounted(state))[0] == DOUBT


def test_a_job_that_nobody_knows_is_doubt() -> None:
    assert ended() == (DOUBT, verdict.VANISHED)
    assert ended(None, None, accounted("REQUEUED"))[0] == DOUBT
    assert ended(BADLY) == (DOUBT, verdict.EXCEPTION)


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_an_error_of_a_job_that_has_ended_is_one(state: str) -> None:
    assert ended(BADLY, queued("57", state)) == (FAILURE, verdict.EXCEPTION)
    assert ended(BADLY, None, accounted(state)) == (FAILURE, verdict.EXCEPTION)


@pytest.mark.parametrize(
    ("queue", "memory", "cause"),
    [
        ("CANCELLED", (), verdict.CANCELLED),
        ("", ("CANCELLED", "CANCELLED"), verdict.CANCELLED),
        ("TIMEOUT", (), verdict.TIME),
        ("DEADLINE", (), verdict.TIME),
        ("", ("TIMEOUT", "CANCELLED"), verdict.TIME),
        ("NODE_FAIL", (), verdict.NODE),
        ("", ("NODE_FAIL", "CANCELLED"), verdict.NODE),
        ("BOOT_FAIL", (), verdict.NODE),
        ("PREEMPTED", (), verdict.PREEMPTED),
        ("OUT_OF_MEMORY", (), verdict.MEMORY),
        ("FAILED", ("FAILED", "OUT_OF_MEMORY"), verdict.MEMORY),
        ("", ("FAILED", "FAILED", "OUT_OF_MEMORY"), verdict.MEMORY),
        ("FAILED", (), verdict.EXCEPTION),
        ("COMPLETED", (), verdict.VANISHED),
    ],
)
@pytest.mark.parametrize("result", [True, False])
def test_the_cause_is_what_slurm_says(
    queue: str, memory: tuple[str, ...], cause: str, result: bool
) -> None:
    if result and cause == verdict.VANISHED:
        cause = verdict.EXCEPTION
    found = ended(
        BADLY if result else None,
        queued("57", queue) if queue else None,
        accounted(*memory) if memory else None,
    )
    assert found[1] == cause


@pytest.mark.parametrize(
    "line",
    [
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=57.batch. Some of your "
        "processes may have been killed by the cgroup out-of-memory handler.",
        "slurmstepd: error: Detected 2 oom_kill events in StepId=57.batch. Some of the step tasks "
        "have been OOM Killed.",
        "slurmstepd: error: Job 57 exceeded memory limit (4100 > 3000), being killed",
        "slurmstepd: error: Exceeded job memory limit",
        "slurmstepd-lab1: error: Step 57.0 exceeded memory limit (4100 > 3000), being killed",
    ],
)
def test_memory_is_the_cause_where_only_the_log_says_so(line: str) -> None:
    memory = accounted("FAILED", exit_code="1:0")
    log = f"{SNAKEMAKE}{line}\n"
    found = judge(entry(log=log), BADLY, queued("57", "FAILED"), memory)
    assert (found.state, found.cause) == (FAILURE, verdict.MEMORY)
    assert "3000 MB" in found.text and "mem_mb" in found.text


@pytest.mark.parametrize(
    "line",
    ["slurmstepd: error: *** JOB 57 ON lab1 CANCELLED AT 2026-05-04T10:00:00 ***",
     "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."],
)  # fmt: skip
def test_other_lines_are_not_about_the_jobs_memory(line: str) -> None:
    assert ended(BADLY, queued("57", "FAILED"), log=line)[1] == verdict.EXCEPTION


def test_a_job_that_ended_well_without_its_output() -> None:
    log = "MissingOutputException in rule train in file Snakefile, line 3:\nJob 1 completed"
    assert ended(BADLY, queued("57", "FAILED"), log=log) == (FAILURE, verdict.MISSING)


def exception(**logs: Any) -> str:
    found = judge(entry(**logs), BADLY, queued("57", "FAILED"), None)
    assert found.cause == verdict.EXCEPTION
    return found.text


def test_the_exception_is_the_rules_not_that_of_what_runs_it() -> None:
    assert exception(log=SNAKEMAKE) == "ValueError: the loss is nan"


def test_the_rules_own_log_is_asked_first() -> None:
    own = "step 1\nKeyError: 'p7'\n"
    assert exception(log=SNAKEMAKE, own=own) == "KeyError: 'p7'"
    assert exception(log="", own=own, own_age=-5) == "KeyError: 'p7'"


def test_a_log_older_than_the_job_says_nothing_about_it() -> None:
    assert exception(log=SNAKEMAKE, own="KeyError: 'p7'\n", own_age=60) == (
        "ValueError: the loss is nan"
    )


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (
            "  kd.common.errors.UserError: no such method",
            "kd.common.errors.UserError: no such method",
        ),
        ("AssertionError", "AssertionError"),
        ("error: configs/a.yaml: 'lr' is no number", "error: configs/a.yaml: 'lr' is no number"),
        ("/bin/bash: line 1: nonsuch: command not found",) * 2,
        ("srun: error: lab2: task 1: Killed",) * 2,
    ],
)
def test_lines_that_name_an_error(line: str, named: str) -> None:
    assert verdict.error_line(["before", line, "after"]) == named


@pytest.mark.parametrize(
    "line",
    ["Error in rule train:", "no error: all is well", "class MyError(Exception):", "",
     "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 1.",
     "snakemake_executor_plugin_submitit.payload.CommandError: the command ended with status 1"],
)  # fmt: skip
def test_lines_that_name_none(line: str) -> None:
    assert verdict.error_line([line]) == ""


@pytest.mark.parametrize(
    "log",
    [
        ["[rank1]: Traceback (most recent call last):", "[rank1]: ValueError: the loss is nan"],
        ["ValueError: the loss is nan", "srun: error: lab2: task 1: Exited with exit code 1"],
        [
            "ValueError: the loss is nan",
            "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
        ],
    ],
)
def test_the_exception_of_one_of_several_processes_is_the_cause(log: list[str]) -> None:
    assert verdict.error_line(log) == "ValueError: the loss is nan"


def test_without_an_error_line_the_result_says_what_happened() -> None:
    assert exception() == TRACEBACK.splitlines()[-1]


@pytest.mark.parametrize(
    ("code", "text"),
    [("3:0", "status 3"), ("0:9", "signal 9"), ("", "killed"), ("0:53", "signal 53")],
)
def test_without_a_result_accounting_says_how_it_ended(code: str, text: str) -> None:
    memory = accounted("FAILED", exit_code=code)
    assert text in judge(entry(), None, None, memory).text


def test_the_lost_node_is_named() -> None:
    assert "lab1" in judge(entry(), None, queued("57", "NODE_FAIL"), accounted("NODE_FAIL")).text
    assert "lab2" in judge(entry(), None, None, accounted("NODE_FAIL")).text


def test_a_job_without_any_log_has_a_cause_too(folder: Path) -> None:
    made = entry()
    made.log = None
    assert judge(made, None, queued("57", "FAILED"), None).cause == verdict.EXCEPTION


def test_the_tail_of_a_log() -> None:
    Path("log").write_bytes(b"x" * 200_000 + b"\n\xff\xfe\nlast\n")
    assert verdict.tail_of("log", 2)[-1] == "last"
    assert len(verdict.tail_of("log", 1)) == 1
    assert verdict.tail_of("absent") == verdict.tail_of(None) == []


def test_results_of_submitit_are_read(folder: Path) -> None:
    path = folder / "57_0_result.pkl"
    assert verdict.read_outcome(path) is None
    path.write_bytes(pickle.dumps(("success", None)))
    assert verdict.read_outcome(path) == WELL
    path.write_bytes(pickle.dumps(BADLY))
    assert verdict.read_outcome(path) == BADLY


def test_a_result_that_is_cut_short_is_none_yet(folder: Path) -> None:
    whole = pickle.dumps(BADLY)
    path = folder / "57_0_result.pkl"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert verdict.read_outcome(path) is None


@pytest.mark.parametrize("content", [b"cmissing\nName\n.", pickle.dumps(3)])
def test_a_result_that_is_none_of_submitits_is_none(folder: Path, content: bytes) -> None:
    path = folder / "57_0_result.pkl"
    path.write_bytes(content)
    assert verdict.read_outcome(path) is None
