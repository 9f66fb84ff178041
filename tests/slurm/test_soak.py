"""Two hundred jobs, and faults at random for ten minutes: all that can finish has finished.

KD_SOAK_SECONDS: for how long faults are injected (600). There is a job for every three seconds.
KD_SOAK_SEED: which jobs, and which faults (4).
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
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
SHOWN_LOG = re.compile(r"^Logfile [^\n]*:\n(=+)\n.*?\n\1\n", re.M | re.S)
PLUGIN_TRACEBACK = re.compile(r'^  File ".*snakemake_executor_plugin_submitit/', re.M)
EXCEPTION = "exception: ValueError: the number 17 is not even"
ENDS_A_JOB = {"scancel", "requeue", "preempt", "node-lost"}
AROUND = 10
"""Seconds in which a fault may cut a job that has made its output, but not yet said so."""
AFTER = {"node-lost": 60}
"""Seconds after a fault: a job that was just starting outlives its node, which Slurm counts out."""


@pytest.mark.slurm_full
def test_soak(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
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
    wrong = [*unfinished(soak), *repeated(soak, chaos), *not_resumed(soak), *overlapping(soak)]
    wrong += [*misjudged(soak, chaos, last), *untold(soak, chaos), *left_over(soak, case)]
    assert not wrong, "\n".join(wrong)
    case.shows(f"{JOBS} jobs, {sum(chaos.count().values())} faults in {seconds:.0f} s")


def unfinished(soak: Soak) -> Iterator[str]:
    """Yield what did not end as it should: done, failed, or never begun."""
    yield from (f"{name} is not finished" for name in soak.unfinished)
    for name in soak.doomed:
        if soak.history(name):
            yield f"{name} ran without its input"
    for name in soak.names("fail"):
        if "end" in whats(soak.history(name)):
            yield f"{name} finished"


def repeated(soak: Soak, chaos: Chaos) -> Iterator[str]:
    """Yield finished jobs that ran again, without a fault that cut them in their last seconds."""
    for name in soak.jobs:
        history = soak.history(name)
        for number, note in enumerate(history[:-1]):
            if note.what == "end" and not was_cut(note, chaos):
                yield f"{name} ran again: {history[number:]}"


def was_cut(note: Note, chaos: Chaos) -> bool:
    return any(
        fault.what in ENDS_A_JOB
        and note.id in fault.jobs
        and fault.began - AROUND < note.time < fault.ended + AFTER.get(fault.what, AROUND)
        for fault in chaos.faults
    )


def not_resumed(soak: Soak) -> Iterator[str]:
    """Yield jobs that did not go on at the step they had stopped at."""
    histories = [soak.history(name) for name in soak.names("steps")]
    if SECONDS >= 300 and not any("stopped" in whats(history) for history in histories):
        yield "no job was told to stop in time"
    for name in soak.names("steps"):
        for before, after in pairwise(soak.history(name)):
            if before.what == "stopped" and (after.what, after.step) != ("start", before.step):
                yield f"{name} stopped at step {before.step}, and then: {after}"
            if after.step < before.step:
                yield f"{name} went back from step {before.step} to {after.step}"


def overlapping(soak: Soak) -> Iterator[str]:
    """Yield jobs that ran twice at the same time."""
    for name in soak.jobs:
        if "overlap" in whats(soak.history(name)):
            yield f"{name} ran twice at a time: {soak.history(name)}"


def misjudged(soak: Soak, chaos: Chaos, last: Flow) -> Iterator[str]:
    """Yield failures with a wrong cause, and those missing from the run without faults."""
    cancelled = cancelled_jobs(chaos)
    for flow in [*chaos.flows, last]:
        for id, name, text, _ in failures(flow):
            kind = soak.jobs[name]["kind"]
            right = text.startswith("cancelled") if id in cancelled else False
            if not right and not (kind == "fail" and text == EXCEPTION):
                yield f"{flow.log.name}: job {id} ({kind} {name}) is said to have failed: {text}"
        # One that was interrupted before it said anything was still importing itself.
        begun = not flow.output.startswith("Traceback")
        if begun and PLUGIN_TRACEBACK.search(SHOWN_LOG.sub("", flow.output)):
            yield f"{flow.log.name} shows a traceback of the plugin"
    told = {name for _, name, _, _ in failures(last)}
    if told != set(soak.names("fail")):
        yield f"the last run names as failed: {sorted(told)}"


def untold(soak: Soak, chaos: Chaos) -> Iterator[str]:
    """Yield cancelled jobs that were not said to be, by a Snakemake that knew them and lived."""
    for fault in chaos.faults:
        if fault.what != "scancel" or fault.run in chaos.cut:
            continue
        (id,), flow = fault.jobs, chaos.flows[fault.run]
        name = chaos.case.sampler.names[id]
        told = any(id == job for job, *_ in failures(flow))
        finished = any(note.id == id and note.what == "end" for note in soak.history(name))
        if knew(flow, id) and not told and not finished and not unaccounted(fault, chaos):
            yield f"{flow.log.name} does not say that {id} ({name}) was cancelled"


def unaccounted(cancelled: Fault, chaos: Chaos) -> bool:
    """Return whether accounting may have been away: it alone knows of a task that never started."""
    longest = max(PASSES_AFTER) + AROUND
    return any(
        fault.what == "dbd-down" and -AROUND < cancelled.began - fault.ended < longest
        for fault in chaos.faults
    )


def knew(flow: Flow, id: str) -> bool:
    """Return whether a run of Snakemake has submitted a job or taken it over."""
    submitted = flow.lines(rf"^Submitted .*: jobs? {id.partition('_')[0]}\b")
    return bool(submitted or flow.lines(rf"^job {id} .*taken over"))


def left_over(soak: Soak, case: Case) -> Iterator[str]:
    """Yield what is still there: jobs in the queue, processes, entries of the ledger."""
    wait_for(lambda: not case.lab.queue(), 180, "an empty queue")
    for process in psutil.process_iter(["cmdline"]):
        if str(soak.folder) in " ".join(process.info["cmdline"] or []):
            yield f"a process is left: {process}"
    for entry in entries(soak.folder / ".snakemake/submitit"):
        cause = (entry.verdict or {}).get("cause")
        if cause != "exception" or soak.jobs[entry.wildcards["name"]]["kind"] != "fail":
            yield f"the ledger has {entry}"


def failures(flow: Flow) -> list[tuple[str, ...]]:
    """Return job, name, cause and log of the failures that a run of Snakemake tells."""
    found = map(FAILURE.search, flow.output.splitlines())
    return [match.groups() for match in found if match and "submitting it again" not in match[0]]


def cancelled_jobs(chaos: Chaos) -> set[str]:
    return {id for fault in chaos.faults if fault.what == "scancel" for id in fault.jobs}


def whats(history: list[Note]) -> list[str]:
    return [note.what for note in history]


def table(soak: Soak, chaos: Chaos, case: Case, seconds: float) -> Iterator[str]:
    """Yield the lines of a summary: faults, and what became of each kind of job."""
    yield f"\nsoak: {JOBS} jobs, seed {SEED}, {seconds:.0f} s of faults, {len(chaos.flows)} runs"
    yield "faults: " + ", ".join(f"{what} {n}" for what, n in sorted(chaos.count().items()))
    heads = ("kind", "jobs", "submitted", "starts", "stopped", "resumed", "finished", "failed")
    yield "".join(f"{head:>10}" for head in heads)
    ran = Counter(case.sampler.names[id] for id in case.sampler.ids if id in case.sampler.names)
    told = {name for flow in case.flows for _, name, _, _ in failures(flow)}
    for kind in ("plain", "steps", "memory", "fail"):
        mine = soak.names(kind)
        notes = [note for name in mine for note in soak.history(name)]
        count = Counter(note.what for note in notes)
        resumed = sum(note.what == "start" and note.step > 0 for note in notes)
        done = sum("end" in whats(soak.history(name)) for name in mine)
        figures = (len(mine), sum(ran[name] for name in mine), count["start"], count["stopped"])
        figures += (resumed, done, len(told.intersection(mine)))
        yield f"{kind:>10}" + "".join(f"{figure:>10}" for figure in figures)
