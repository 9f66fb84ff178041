"""State of a job and cause of its failure, from its result, the queue, accounting and its log."""

import pickle
import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from signal import Signals

from snakemake_executor_plugin_submitit.ledger import Entry
from snakemake_executor_plugin_submitit.slurm import Accounted, Queued

ACTIVE, DOUBT, SUCCESS, FAILURE = "active", "doubt", "success", "failure"

EXCEPTION = "exception"
MEMORY = "out of memory"
TIME = "time limit"
NODE = "node lost"
CANCELLED = "cancelled"
PREEMPTED = "preempted"
REJECTED = "rejected"
VANISHED = "vanished"
MISSING = "missing output"
SAVED = "saved"
"""The job saved and ended, because it may not be requeued."""


WARNING = Signals.SIGUSR2

LOST = frozenset({TIME, NODE, PREEMPTED, VANISHED, SAVED})
"""Causes that the cluster is responsible for; the job may succeed when submitted again."""

DOUBTFUL = frozenset({"BOOT_FAIL", "COMPLETED", "NODE_FAIL", "PREEMPTED", "REQUEUED", "REVOKED"})
"""States that may precede a requeue, or that may precede the arrival of the result file."""

KILLED_FOR_MEMORY = re.compile(r"slurmstepd\S*: error: .*(memory limit|oom[-_ ]kill)", re.I)
NOT_REQUEUED = "Job not requeued because"
"""Words of submitit's error for a job that it does not requeue."""

BLAMED = frozenset({EXCEPTION, NODE, VANISHED})
"""Causes that may be the fault of the node."""

MISSING_OUTPUT = re.compile(r"MissingOutputException")
ERROR_LINES = (
    re.compile(
        r"^\s*(?:\[rank\d+\]: )?((?:error|/bin/\w*sh): \S.*|[\w.]*\w(?:Error|Exception)(?:: .*)?)$"
    ),
    re.compile(r"^(srun: error: \S.*)$"),
)
"""Patterns of lines that name an error; later ones apply only if no line matches the first."""

NOT_THE_CAUSE = re.compile(
    r"CalledProcessError|ChildFailedError|CommandError|WorkflowError|RuleException|submitit"
)
TAIL_BYTES = 64_000


@dataclass(frozen=True)
class JobVerdict:
    """ACTIVE, DOUBT, SUCCESS or FAILURE; DOUBT and FAILURE have a cause and a line of text.

    ``node`` is the node, or the list of nodes, that may have caused a failure; empty otherwise.
    """

    state: str
    cause: str = ""
    text: str = ""
    node: str = ""


def judge(
    entry: Entry,
    outcome: tuple[str, str] | None,
    queued: Queued | None,
    accounted: Accounted | None,
) -> JobVerdict:
    """Return the verdict on a job; its ``outcome`` is ("success" or "error", text) or None."""
    if outcome and outcome[0] == "success":
        return JobVerdict(SUCCESS)
    if queued and queued.live:
        return JobVerdict(ACTIVE)  # its result, if any, is the error of an earlier start
    states: tuple[str, ...] = (queued.state,) if queued else ()
    states += accounted.states if accounted else ()
    node = (queued and queued.node) or (accounted and accounted.node) or ""
    cause, text = _cause(states, accounted, entry, node or "its node", outcome)
    doubtful = not states or states[0] in DOUBTFUL
    settled = outcome is not None and states and states[0] in ("COMPLETED", "FAILED")
    state = DOUBT if doubtful and not settled else FAILURE
    return JobVerdict(state, cause, text, node if cause in BLAMED else "")


def _cause(
    states: tuple[str, ...],
    accounted: Accounted | None,
    entry: Entry,
    node: str,
    outcome: tuple[str, str] | None,
) -> tuple[str, str]:
    log = tail_of(entry.log)
    if "OUT_OF_MEMORY" in states or any(KILLED_FOR_MEMORY.search(line) for line in log):
        return MEMORY, f"out of memory: the job had requested {entry.mem_mb} MB (resource mem_mb)"
    if outcome and NOT_REQUEUED in outcome[1]:
        return SAVED, "saved before its time limit or a preemption, and was not requeued"
    state = states[0] if states else ""
    if state == "CANCELLED":
        return CANCELLED, "cancelled by its user or an administrator"
    if state in ("TIMEOUT", "DEADLINE"):
        return TIME, "the time limit was reached before the job could be requeued"
    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return NODE, f"node {node} failed"
    if state == "PREEMPTED":
        return PREEMPTED, "preempted and not requeued"
    if outcome or state == "FAILED":
        return _failure(entry, log, outcome, accounted)
    if state == "COMPLETED":
        return VANISHED, "the job ended without a result file"
    return VANISHED, "the job is no longer queued and left no result file"


def _failure(
    entry: Entry,
    log: list[str],
    outcome: tuple[str, str] | None,
    accounted: Accounted | None,
) -> tuple[str, str]:
    if any(MISSING_OUTPUT.search(line) for line in log):
        return MISSING, "the job succeeded but did not create its output file"
    line = error_line(_rule_log(entry)) or error_line(log)
    if line:
        return EXCEPTION, line
    if outcome:
        return EXCEPTION, outcome[1].strip().rpartition("\n")[2]
    code, _, signal = (accounted.exit_code if accounted else "").partition(":")
    if signal == str(WARNING.value):
        return PREEMPTED, "killed by the warning signal before it could save"
    if signal not in ("", "0"):
        return EXCEPTION, f"killed by signal {signal}"
    return EXCEPTION, f"exit status {code}" if code else "killed without a result file"


def _rule_log(entry: Entry) -> list[str]:
    """Return the last lines of the rule's log, unless an earlier job wrote it."""
    since = datetime.fromisoformat(entry.submitted).timestamp()
    for path in map(Path, entry.logs):
        if path.exists() and path.stat().st_mtime >= since:
            return tail_of(path)
    return []


def error_line(log: list[str]) -> str:
    """Return the last line of a log that names an error, or an empty string."""
    for pattern in ERROR_LINES:
        for line in reversed(log):
            match = pattern.match(line)
            if match and not NOT_THE_CAUSE.search(line):
                return match[1].strip()[:400]
    return ""


def tail_of(path: str | Path | None, lines: int = 1000) -> list[str]:
    """Return the last lines of a text file; an empty list if it cannot be read."""
    if path is None:
        return []
    try:
        with open(path, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError:
        return []
    return list(deque(text.splitlines(), maxlen=lines))


def read_outcome(path: Path) -> tuple[str, str] | None:
    """Return the content of submitit's result file: ("success", "") or ("error", traceback)."""
    try:
        kind, value = pickle.loads(path.read_bytes())
        return str(kind), str(value or "")
    except Exception:  # absent, half written, or not a result of submitit
        return None
