"""Verdicts on jobs, from the queue, accounting, results and logs."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import queued
from snakemake_executor_plugin_submitit import verdict
from snakemake_executor_plugin_submitit.ledger import Entry
from snakemake_executor_plugin_submitit.slurm import TERMINAL, Accounted, Queued
from snakemake_executor_plugin_submitit.verdict import ACTIVE, DOUBT, FAILURE, SUCCESS, judge

SUBMITTED = "2026-05-04T10:00:00+00:00"
TIME_OF_SUBMISSION = 1777888800
SUCCESSFUL = ("success", "")
TRACEBACK = """Traceback (most recent call last):
  File "submission.py", line 55, in process_job
    result = delayed.result()
snakemake_executor_plugin_submitit.payload.CommandError: the command failed with exit status 1
"""
ERROR = ("error", TRACEBACK)
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


def entry(log: str = "", rule_log: str = "", rule_log_age: float = 0) -> Entry:
    """Return an entry with a job log, and a rule log from ``rule_log_age`` s before submission."""
    job = Entry("key", "digest", "train", {"run": "one"}, ["out"], ["train.log"], mem_mb=3000)
    job.id, job.log, job.submitted = "57", "57_0_log.out", SUBMITTED
    Path(job.log).write_text(log)
    if rule_log:
        Path("train.log").write_text(rule_log)
        os.utime("train.log", (TIME_OF_SUBMISSION - rule_log_age,) * 2)
    return job


def accounted(*states: str, exit_code: str = "0:0", node: str = "lab2") -> Accounted:
    return Accounted(states, exit_code, node)


def ended(
    outcome: tuple[str, str] | None = None,
    queue: Queued | None = None,
    record: Accounted | None = None,
    **logs: Any,
) -> tuple[str, str]:
    """Return state and cause of the verdict."""
    judgment = judge(entry(**logs), outcome, queue, record)
    assert "\n" not in judgment.text
    return judgment.state, judgment.cause


@pytest.mark.parametrize("state", sorted(TERMINAL | {"RUNNING", "PENDING", "COMPLETING"}))
def test_a_successful_result_is_final_in_every_state(state: str) -> None:
    assert ended(SUCCESSFUL, queued("57", state))[0] == SUCCESS


@pytest.mark.parametrize(
    "state",
    ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUE_HOLD", "REQUEUED",
     "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT"],
)  # fmt: skip
def test_a_live_job_is_active_despite_the_error_of_an_earlier_start(state: str) -> None:
    assert ended(ERROR, queued("57", state), accounted("NODE_FAIL"))[0] == ACTIVE
    assert ended(ERROR, queued("57", state), log="slurmstepd: error: memory limit")[0] == ACTIVE


@pytest.mark.parametrize("state", ["COMPLETED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED"])
def test_states_before_a_requeue_or_a_result_are_doubtful(state: str) -> None:
    assert ended(None, queued("57", state))[0] == DOUBT
    assert ended(None, None, accounted(state))[0] == DOUBT


def test_a_job_without_any_record_is_doubtful() -> None:
    assert ended() == (DOUBT, verdict.VANISHED)
    assert ended(None, None, accounted("REQUEUED"))[0] == DOUBT
    assert ended(ERROR) == (DOUBT, verdict.EXCEPTION)


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_the_error_of_an_ended_job_is_a_failure(state: str) -> None:
    assert ended(ERROR, queued("57", state)) == (FAILURE, verdict.EXCEPTION)
    assert ended(ERROR, None, accounted(state)) == (FAILURE, verdict.EXCEPTION)


@pytest.mark.parametrize(
    ("queue", "states", "cause"),
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
def test_the_cause_comes_from_slurms_states(
    queue: str, states: tuple[str, ...], cause: str, result: bool
) -> None:
    if result and cause == verdict.VANISHED:
        cause = verdict.EXCEPTION
    _, judged_cause = ended(
        ERROR if result else None,
        queued("57", queue) if queue else None,
        accounted(*states) if states else None,
    )
    assert judged_cause == cause


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
def test_out_of_memory_is_found_in_the_log(line: str) -> None:
    record = accounted("FAILED", exit_code="1:0")
    log = f"{SNAKEMAKE}{line}\n"
    judgment = judge(entry(log=log), ERROR, queued("57", "FAILED"), record)
    assert (judgment.state, judgment.cause) == (FAILURE, verdict.MEMORY)
    assert "3000 MB" in judgment.text and "mem_mb" in judgment.text


@pytest.mark.parametrize(
    "line",
    ["slurmstepd: error: *** JOB 57 ON lab1 CANCELLED AT 2026-05-04T10:00:00 ***",
     "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."],
)  # fmt: skip
def test_other_lines_do_not_mean_out_of_memory(line: str) -> None:
    assert ended(ERROR, queued("57", "FAILED"), log=line)[1] == verdict.EXCEPTION


def test_a_job_without_its_output_file_has_missing_output() -> None:
    log = "MissingOutputException in rule train in file Snakefile, line 3:\nJob 1 completed"
    assert ended(ERROR, queued("57", "FAILED"), log=log) == (FAILURE, verdict.MISSING)


def exception(**logs: Any) -> str:
    """Return the text of the verdict on a job that failed with an exception."""
    judgment = judge(entry(**logs), ERROR, queued("57", "FAILED"), None)
    assert judgment.cause == verdict.EXCEPTION
    return judgment.text


def test_the_exception_is_that_of_the_rule_and_not_of_snakemake() -> None:
    assert exception(log=SNAKEMAKE) == "ValueError: the loss is nan"


def test_the_log_of_the_rule_comes_first() -> None:
    rule_log = "step 1\nKeyError: 'p7'\n"
    assert exception(log=SNAKEMAKE, rule_log=rule_log) == "KeyError: 'p7'"
    assert exception(log="", rule_log=rule_log, rule_log_age=-5) == "KeyError: 'p7'"


def test_a_rule_log_older_than_the_job_is_ignored() -> None:
    assert exception(log=SNAKEMAKE, rule_log="KeyError: 'p7'\n", rule_log_age=60) == (
        "ValueError: the loss is nan"
    )


@pytest.mark.parametrize(
    ("line", "error"),
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
def test_a_line_that_names_an_error_is_found(line: str, error: str) -> None:
    assert verdict.error_line(["before", line, "after"]) == error


@pytest.mark.parametrize(
    "line",
    ["Error in rule train:", "no error: all is well", "class MyError(Exception):", "",
     "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 1.",
     "snakemake_executor_plugin_submitit.payload.CommandError: exit status 1"],
)  # fmt: skip
def test_other_lines_name_no_error(line: str) -> None:
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
def test_the_exception_of_one_process_of_several_is_the_cause(log: list[str]) -> None:
    assert verdict.error_line(log) == "ValueError: the loss is nan"


def test_without_an_error_line_the_text_comes_from_the_result() -> None:
    assert exception() == TRACEBACK.splitlines()[-1]


@pytest.mark.parametrize(
    ("code", "text"),
    [("3:0", "status 3"), ("0:9", "signal 9"), ("", "killed"), ("0:53", "signal 53")],
)
def test_without_a_result_the_text_comes_from_accounting(code: str, text: str) -> None:
    record = accounted("FAILED", exit_code=code)
    assert text in judge(entry(), None, None, record).text


def test_the_lost_node_is_named() -> None:
    assert "lab1" in judge(entry(), None, queued("57", "NODE_FAIL"), accounted("NODE_FAIL")).text
    assert "lab2" in judge(entry(), None, None, accounted("NODE_FAIL")).text


def test_a_job_without_a_log_has_a_cause(folder: Path) -> None:
    job = entry()
    job.log = None
    assert judge(job, None, queued("57", "FAILED"), None).cause == verdict.EXCEPTION


def test_the_last_lines_of_a_log_are_read() -> None:
    Path("log").write_bytes(b"x" * 200_000 + b"\n\xff\xfe\nlast\n")
    assert verdict.tail_of("log", 2)[-1] == "last"
    assert len(verdict.tail_of("log", 1)) == 1
    assert verdict.tail_of("absent") == verdict.tail_of(None) == []


def test_results_of_submitit_are_read(folder: Path) -> None:
    path = folder / "57_0_result.pkl"
    assert verdict.read_outcome(path) is None
    path.write_bytes(pickle.dumps(("success", None)))
    assert verdict.read_outcome(path) == SUCCESSFUL
    path.write_bytes(pickle.dumps(ERROR))
    assert verdict.read_outcome(path) == ERROR


def test_a_half_written_result_is_no_result(folder: Path) -> None:
    whole = pickle.dumps(ERROR)
    path = folder / "57_0_result.pkl"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert verdict.read_outcome(path) is None


@pytest.mark.parametrize("content", [b"cmissing\nName\n.", pickle.dumps(3)])
def test_a_file_that_is_no_result_of_submitit_is_no_result(folder: Path, content: bytes) -> None:
    path = folder / "57_0_result.pkl"
    path.write_bytes(content)
    assert verdict.read_outcome(path) is None
