"""Soak test: random faults during 200 jobs, all of which end correctly.

The environment variable KD_SOAK_SECONDS sets the seconds of faults (600), with one job per three
seconds. KD_SOAK_SEED is the seed of jobs and faults (4).
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from random import Random

import psutil
import pytest
from snakemake_executor_plugin_submitit.ledger import entries

from tests.slurm.conftest import Case
from tests.slurm.flow import Flow
from tests.slurm.lab import wait_for
from tests.slurm.soak.chaos import PASSES_AFTER, Chaos, Fault
from tests.slurm.soak.project import Note, Soak

SECONDS = int(os.environ.get("KD_SOAK_SECONDS", "600"))
SEED = int(os.environ.get("KD_SOAK_SEED", "4"))
JOBS = SECONDS // 3
LAST_RUN = 900
FAILURE = re.compile(r"job (\d+\S*) \(work name=(\w+)\): (.*?)(?:; log: (\S+))?$")
QUOTED_LOG = re.compile(r"^Logfile [^\n]*:\n(=+)\n.*?\n\1\n", re.M | re.S)
PLUGIN_TRACEBACK = re.compile(r'^  File ".*snakemake_executor_plugin_submitit/', re.M)
EXCEPTION = "exception: ValueError: the number 17 is not even"
ENDS_A_JOB = {"scancel", "requeue", "preempt", "node-lost"}
MARGIN = 10
"""Seconds around a fault in which a job may be interrupted between its output and its end."""
MARGIN_AFTER = {"node-lost": 60}
"""Seconds after a fault; a job that was starting may outlive the node that Slurm has given up."""


@pytest.mark.slurm_full
def test_all_jobs_end_correctly_despite_random_faults(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    soak = Soak(case.folder, JOBS, SEED)
    chaos = Chaos(case, Random(SEED), lambda: soak.unfinished)
    seconds = chaos.rage(SECONDS)
    chaos.flows[-1].wait(LAST_RUN)
    last = case.snakemake()
    status = last.wait(LAST_RUN)
    shutil.copytree(case.lab.folder / "log", case.folder / "slurm-log")
    with capsys.disabled():
        print("\n".join(table(soak, chaos, case, seconds)))
    assert status == 1, last.output
    errors = [*unfinished(soak), *repeated(soak, chaos), *not_resumed(soak), *overlapping(soak)]
    errors += [*misjudged(soak, chaos, last), *unreported(soak, chaos), *left_over(soak, case)]
    assert not errors, "\n".join(errors)
    case.report(f"{JOBS} jobs, {sum(chaos.count().values())} faults in {seconds:.0f} s")


def unfinished(soak: Soak) -> Iterator[str]:
    """Yield jobs that did not finish, fail or stay pending as planned."""
    yield from (f"{name} is not finished" for name in soak.unfinished)
    for name in soak.doomed:
        if soak.history(name):
            yield f"{name} ran without its input"
    for name in soak.names("fail"):
        if "end" in events(soak.history(name)):
            yield f"{name} finished"


def repeated(soak: Soak, chaos: Chaos) -> Iterator[str]:
    """Yield finished jobs that ran again without a fault in their last seconds."""
    for name in soak.jobs:
        history = soak.history(name)
        for number, note in enumerate(history[:-1]):
            if note.event == "end" and not was_interrupted(note, chaos):
                yield f"{name} ran again: {history[number:]}"


def was_interrupted(note: Note, chaos: Chaos) -> bool:
    log = (chaos.case.folder / "slurm-log" / "slurmctld.log").read_text()
    if any(abs(note.time - time) < MARGIN for time in preemptions(log, note.id)):
        return True
    return any(
        fault.kind in ENDS_A_JOB
        and note.id in fault.jobs
        and fault.began - MARGIN < note.time < fault.ended + MARGIN_AFTER.get(fault.kind, MARGIN)
        for fault in chaos.faults
    )


def preemptions(log: str, id: str) -> list[float]:
    """Return the times at which Slurm's controller preempted a job.

    A fault names the jobs that ran at its time; the job that it submitted may preempt a later one.
    """
    times = re.findall(rf"^\[(\S+)\] preempted JobId={re.escape(id)}(?:\(\d+\))? ", log, re.M)
    return [datetime.fromisoformat(time).timestamp() for time in times]


def not_resumed(soak: Soak) -> Iterator[str]:
    """Yield jobs that did not resume at the step at which they stopped."""
    histories = [soak.history(name) for name in soak.names("steps")]
    if SECONDS >= 300 and not any("stopped" in events(history) for history in histories):
        yield "no job was warned before it was stopped"
    for name in soak.names("steps"):
        for before, after in pairwise(soak.history(name)):
            if before.event == "stopped" and (after.event, after.step) != ("start", before.step):
                yield f"{name} stopped at step {before.step}, and then: {after}"
            if after.step < before.step:
                yield f"{name} went back from step {before.step} to {after.step}"


def overlapping(soak: Soak) -> Iterator[str]:
    """Yield jobs with two simultaneous runs."""
    for name in soak.jobs:
        if "overlap" in events(soak.history(name)):
            yield f"{name} ran twice at once: {soak.history(name)}"


def misjudged(soak: Soak, chaos: Chaos, last: Flow) -> Iterator[str]:
    """Yield failures with a wrong cause, and failures missing from the last run."""
    cancelled = cancelled_jobs(chaos)
    for flow in [*chaos.flows, last]:
        for id, name, text, _ in failures(flow):
            kind = soak.jobs[name]["kind"]
            cancelled_job = id in cancelled and text.startswith("cancelled")
            if not cancelled_job and not (kind == "fail" and text == EXCEPTION):
                yield f"{flow.log.name}: job {id} ({kind} {name}) is reported as failed: {text}"
        # A Snakemake that was interrupted during its imports shows a traceback of these.
        started = not flow.output.startswith("Traceback")
        if started and PLUGIN_TRACEBACK.search(QUOTED_LOG.sub("", flow.output)):
            yield f"{flow.log.name} shows a traceback of the plugin"
    reported = {name for _, name, _, _ in failures(last)}
    if reported != set(soak.names("fail")):
        yield f"the last run reports as failed: {sorted(reported)}"


def unreported(soak: Soak, chaos: Chaos) -> Iterator[str]:
    """Yield cancelled jobs that a running Snakemake knew but did not report."""
    for fault in chaos.faults:
        if fault.kind != "scancel" or fault.run in chaos.stopped_runs:
            continue
        (id,), flow = fault.jobs, chaos.flows[fault.run]
        name = chaos.case.sampler.names[id]
        reported = any(id == job for job, *_ in failures(flow))
        finished = any(note.id == id and note.event == "end" for note in soak.history(name))
        if knows(flow, id) and not reported and not finished and not unaccounted(fault, chaos):
            yield f"{flow.log.name} does not report that {id} ({name}) was cancelled"


def unaccounted(cancelled: Fault, chaos: Chaos) -> bool:
    """Return True if accounting was down; it alone has records of tasks that never started."""
    longest = max(PASSES_AFTER) + MARGIN
    return any(
        fault.kind == "dbd-down" and -MARGIN < cancelled.began - fault.ended < longest
        for fault in chaos.faults
    )


def knows(flow: Flow, id: str) -> bool:
    """Return True if a run of Snakemake has submitted or adopted a job."""
    submitted = flow.lines(rf"^Submitted .*: jobs? {id.partition('_')[0]}\b")
    return bool(submitted or flow.lines(rf"^Adopted job {id} "))


def left_over(soak: Soak, case: Case) -> Iterator[str]:
    """Yield remaining jobs in the queue, processes and entries of the ledger."""
    wait_for(lambda: not case.lab.queue(), 180, "an empty queue")
    for process in psutil.process_iter(["cmdline"]):
        if str(soak.folder) in " ".join(process.info["cmdline"] or []):
            yield f"a process is left: {process}"
    for entry in entries(soak.folder / ".snakemake/submitit"):
        cause = (entry.verdict or {}).get("cause")
        if cause != "exception" or soak.jobs[entry.wildcards["name"]]["kind"] != "fail":
            yield f"the ledger has {entry}"


def failures(flow: Flow) -> list[tuple[str, ...]]:
    """Return job, name, cause and log of the failures that a run of Snakemake reports."""
    matches = map(FAILURE.search, flow.output.splitlines())
    return [match.groups() for match in matches if match and "submitting it again" not in match[0]]


def cancelled_jobs(chaos: Chaos) -> set[str]:
    return {id for fault in chaos.faults if fault.kind == "scancel" for id in fault.jobs}


def events(history: list[Note]) -> list[str]:
    return [note.event for note in history]


def table(soak: Soak, chaos: Chaos, case: Case, seconds: float) -> Iterator[str]:
    """Yield the lines of a summary: faults, and counts for each kind of job."""
    yield f"\nsoak: {JOBS} jobs, seed {SEED}, {seconds:.0f} s of faults, {len(chaos.flows)} runs"
    yield "faults: " + ", ".join(f"{what} {n}" for what, n in sorted(chaos.count().items()))
    heads = ("kind", "jobs", "submitted", "starts", "stopped", "resumed", "finished", "failed")
    yield "".join(f"{head:>10}" for head in heads)
    ran = Counter(case.sampler.names[id] for id in case.sampler.ids if id in case.sampler.names)
    failed = {name for flow in case.flows for _, name, _, _ in failures(flow)}
    for kind in ("plain", "steps", "memory", "fail"):
        names = soak.names(kind)
        notes = [note for name in names for note in soak.history(name)]
        count = Counter(note.event for note in notes)
        resumed = sum(note.event == "start" and note.step > 0 for note in notes)
        done = sum("end" in events(soak.history(name)) for name in names)
        figures = (len(names), sum(ran[name] for name in names), count["start"], count["stopped"])
        figures += (resumed, done, len(failed.intersection(names)))
        yield f"{kind:>10}" + "".join(f"{figure:>10}" for figure in figures)
