"""Snakemake processes on a test cluster, and a sampler of the queue."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

from tests.slurm.lab import SLOWNESS, Lab, Queued, wait_for

LIVE = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_HOLD"}
QUICK = ["--executor", "submitit", "--jobs", "20", "--latency-wait", "5", "--keep-going"]
QUICK += ["--submitit-poll-seconds", "1", "--submitit-poll-max-seconds", "3"]
QUICK += ["--submitit-doubt-seconds", "15", "--rerun-incomplete", "--show-failed-logs"]


class Flow:
    """A ``snakemake`` process in a project's folder, with its output in a numbered file."""

    def __init__(self, project: Path, environment: dict[str, str], *arguments: str) -> None:
        number = len([*project.glob("snakemake-*.out")])
        self.log = project / f"snakemake-{number}.out"
        with open(self.log, "w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *arguments],
                cwd=project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """Output of the process so far."""
        return self.log.read_text(errors="replace")

    @property
    def is_over(self) -> bool:
        """True after the process has ended."""
        return self.process.poll() is not None

    def lines(self, pattern: str) -> list[str]:
        """Return the printed lines that match a pattern."""
        return [line for line in self.output.splitlines() if re.search(pattern, line)]

    def wait(self, seconds: float = 120) -> int:
        """Wait for the end, with ``seconds`` as in ``wait_for``; return the exit status."""
        try:
            return self.process.wait(SLOWNESS * seconds)
        except subprocess.TimeoutExpired:
            limit = f"{SLOWNESS * seconds:g} s"
            raise AssertionError(f"Snakemake has not ended after {limit}:\n{self.output}") from None

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        """Wait for a printed line that matches a pattern; return the first one."""
        wait_for(lambda: self.lines(pattern) or self.is_over, seconds, f"'{pattern}'")
        assert self.lines(pattern), f"'{pattern}' is not in\n{self.output}"
        return self.lines(pattern)[0]

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL to Snakemake."""
        self.process.kill()
        self.process.wait()


class Sampler:
    """Thread that samples the queue; ``duplicates`` lists outputs with two live jobs."""

    def __init__(self, lab: Lab, project: Path) -> None:
        self.lab, self.ledger = lab, project / ".snakemake/submitit"
        self.keys: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.ids_by_output: dict[str, set[str]] = defaultdict(set)
        self.duplicates: list[str] = []
        self.samples = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def submissions(self) -> list[int]:
        """Number of jobs per output, sorted."""
        return sorted(len(ids) for ids in self.ids_by_output.values())

    @property
    def ids(self) -> set[str]:
        """Ids of all jobs that were in the queue."""
        return {id for ids in self.ids_by_output.values() for id in ids}

    def job_of(self, name: str) -> str:
        """Return the id of the job that was last submitted for the plain job ``name``."""
        ids = [id for id, job_name in self.names.items() if job_name == name and id]
        assert ids, f"the ledger has no id of {name}"
        return ids[-1]

    def _watch(self) -> None:
        while not self._over.wait(0.3):
            try:
                queue = self.lab.queue()
            except AssertionError:
                continue  # the controller is away
            self._sample([job for job in queue if job.state in LIVE])

    def _sample(self, jobs: list[Queued]) -> None:
        self._read_ledger(jobs)
        live: dict[str, list[str]] = defaultdict(list)
        for job in jobs:
            if job.comment.startswith("snakemake:"):
                key = self.keys.get(job.id, f"job {job.id}")
                live[key].append(f"{job.id} {job.state}")
                self.ids_by_output[key].add(job.id)
        self.duplicates += [f"{key}: {jobs}" for key, jobs in live.items() if len(jobs) > 1]
        self.samples += 1

    def _read_ledger(self, jobs: list[Queued]) -> None:
        """Map job ids to keys and names; without a confirmed id, by the index in the job array."""
        for path in self.ledger.glob("*.json"):
            try:
                entries = json.loads(path.read_text())["jobs"]
            except (OSError, ValueError):
                continue
            self.keys |= {entry["id"]: entry["key"] for entry in entries if entry["id"]}
            self.names |= {entry["id"]: entry["wildcards"].get("name", "") for entry in entries}
            if all(entry["id"] is None for entry in entries):
                for job in jobs:
                    index = int(job.id.rpartition("_")[2]) if "_" in job.id else 0
                    if job.comment == f"snakemake:{path.stem}" and index < len(entries):
                        self.keys[job.id] = entries[index]["key"]
