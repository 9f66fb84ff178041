"""What became of a job, in words: from its result, the queue, accounting and its log."""

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

WARNING = Signals.SIGUSR2

LOST = frozenset({TIME, NODE, PREEMPTED, VANISHED})
"""What the cluster did to a job; it may well succeed when it is submitted again."""

DOUBTFUL = frozenset({"BOOT_FAIL", "COMPLETED", "NODE_FAIL", "PREEMPTED", "REQUEUED", "REVOKED"})
"""States that may be passed on the way to a requeue, or come before a result that is on its way."""

KILLED_FOR_MEMORY = re.compile(r"slurmstepd\S*: error: .*(memory limit|oom[-_ ]kill)", re.I)
MISSING_OUTPUT = re.compile(r"MissingOutputException")
ERROR_LINES = (
    re.compile(
        r"^\s*(?:\[rank\d+\]: )?((?:error|/bin/\w*sh): \S.*|[\w.]*\w(?:Error|Exception)(?:: .*)?)$"
    ),
    re.compile(r"^(srun: error: \S.*)$"),
)
"""What names an error; the later ones only where none of the first does."""

NOT_THE_CAUSE = re.compile(
    r"CalledProcessError|ChildFailedError|CommandError|WorkflowError|RuleException|submitit"
)
TAIL_BYTES = 64_000


@dataclass(frozen=True)
class JobVerdict:
    """ACTIVE, DOUBT, SUCCESS or FAILURE, which has a cause and says it in a line."""

    state: str
    cause: str = ""
    text: str = ""


def judge(
    entry: Entry,
    outcome: tuple[str, str] | None,
    queued: Queued | None,
    accounted: Accounted | None,
) -> JobVerdict:
    """Return what became of a job, whose ``outcome`` is ("success" or "error", text) or None."""
    if outcome and outcome[0] == "success":
        return JobVerdict(SUCCESS)
    if queued and queued.live:
        return JobVerdict(ACTIVE)  # an error it left is that of an earlier start
    states: tuple[str, ...] = (queued.state,) if queued else ()
    states += accounted.states if accounted else ()
    node = (queued and queued.node) or (accounted and accounted.node) or "its node"
    cause, text = _cause(states, accounted, entry, node, outcome)
    doubtful = not states or states[0] in DOUBTFUL
    settled = outcome is not None and states and states[0] in ("COMPLETED", "FAILED")
    return JobVerdict(DOUBT if doubtful and not settled else FAILURE, cause, text)


def _cause(
    states: tuple[str, ...],
    accounted: Accounted | None,
    entry: Entry,
    node: str,
    outcome: tuple[str, str] | None,
) -> tuple[str, str]:
    log = tail_of(entry.log)
    if "OUT_OF_MEMORY" in states or any(KILLED_FOR_MEMORY.search(line) for line in log):
        return MEMORY, f"out of memory, of which it had asked for {entry.mem_mb} MB (mem_mb)"
    state = states[0] if states else ""
    if state == "CANCELLED":
        return CANCELLED, "cancelled, by its user or an administrator"
    if state in ("TIMEOUT", "DEADLINE"):
        return TIME, "ended by its time limit before it could be requeued"
    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return NODE, f"node {node} failed"
    if state == "PREEMPTED":
        return PREEMPTED, "preempted and not requeued"
    if outcome or state == "FAILED":
        return _failure(entry, log, outcome, accounted)
    if state == "COMPLETED":
        return VANISHED, "ended without a result"
    return VANISHED, "no longer in the queue, and left no result"


def _failure(
    entry: Entry,
    log: list[str],
    outcome: tuple[str, str] | None,
    accounted: Accounted | None,
) -> tuple[str, str]:
    if any(MISSING_OUTPUT.search(line) for line in log):
        return MISSING, "it ended well without having made its output"
    line = error_line(_own_log(entry)) or error_line(log)
    if line:
        return EXCEPTION, line
    if outcome:
        return EXCEPTION, outcome[1].strip().rpartition("\n")[2]
    code, _, signal = (accounted.exit_code if accounted else "").partition(":")
    if signal == str(WARNING.value):
        return PREEMPTED, "ended by the warning, before it could save"
    if signal not in ("", "0"):
        return EXCEPTION, f"ended by signal {signal}"
    return EXCEPTION, f"ended with status {code}" if code else "killed, and left no result"


def _own_log(entry: Entry) -> list[str]:
    """Return the tail of the rule's log if the job has written it; it may be older than the job."""
    since = datetime.fromisoformat(entry.submitted).timestamp()
    for path in map(Path, entry.logs):
        if path.exists() and path.stat().st_mtime >= since:
            return tail_of(path)
    return []


def error_line(log: list[str]) -> str:
    """Return the last line of a log that names an error, or nothing."""
    for pattern in ERROR_LINES:
        for line in reversed(log):
            found = pattern.match(line)
            if found and not NOT_THE_CAUSE.search(line):
                return found[1].strip()[:400]
    return ""


def tail_of(path: str | Path | None, lines: int = 1000) -> list[str]:
    """Return the last lines of a text file; none where it cannot be read."""
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
    """Return what submitit's result file says: ("success", "") or ("error", traceback)."""
    try:
        kind, value = pickle.loads(path.read_bytes())
        return str(kind), str(value or "")
    except Exception:  # absent, half written, or of something else
        return None
