"""Fake Snakemake jobs and a fake cluster."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.backends import result_file
from snakemake_executor_plugin_submitit.efficiency import JobUsage
from snakemake_executor_plugin_submitit.ledger import Entry, JobBatch
from snakemake_executor_plugin_submitit.payload import Payload
from snakemake_executor_plugin_submitit.request import JobRequest, request_of
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.slurm import Accounted, Queued, SlurmError
from snakemake_executor_plugin_submitit.task import Task, entry_of
from snakemake_executor_plugin_submitit.verdict import read_outcome
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo


class Job:
    """A Snakemake job with the attributes that the plugin reads."""

    def __init__(
        self, rule: str = "train", threads: int = 1, command: str = "true", **resources: Any
    ) -> None:
        self.name, self.threads, self.shellcmd, self.jobid = rule, threads, command, 7
        self.attempt = 1
        self.resources, self.rules = resources, [rule]
        self.wildcards_dict: dict[str, str] = {}
        self.output: list[str] = []
        self.log: list[str] = []
        self.registered: list[str | None] = []

    def is_group(self) -> bool:
        return False

    def register(self, external_jobid: str | None = None) -> None:
        self.registered.append(external_jobid)


def job(run: str = "one", **options: Any) -> Job:
    """Return a job that creates ``out/<run>``."""
    new_job = Job(**options)
    new_job.wildcards_dict = {"run": run}
    new_job.output, new_job.log = [f"out/{run}"], [f"logs/{run}.log"]
    return new_job


def task(run: str = "one", **options: Any) -> Task:
    """Return the executor's task for a job."""
    new_job = job(run, **options)
    request = request_of(new_job, ExecutorSettings())
    return Task(SubmittedJobInfo(new_job), request, "true", entry_of(new_job, request.mem_mb))


def queued(id: str, state: str = "RUNNING", comment: str = "", reason: str = "") -> Queued:
    """Return a job as ``squeue`` shows it."""
    return Queued(id, state, reason, "lab1", comment)


class Cluster:
    """A cluster whose queue is a dict; ``answers`` are sbatch's errors for the next submissions."""

    name = "slurm"

    def __init__(self, batch_limit: int = 100) -> None:
        self.batch_limit = batch_limit
        self.jobs: dict[str, Queued] = {}
        self.accounts: dict[str, Accounted] = {}
        self.logs: dict[str, str] = {}
        self.usages: dict[str, JobUsage] = {}
        self.answers: list[Exception | None] = []
        self.submitted: list[tuple[list[str], JobRequest, list[str]]] = []
        self.adopted: list[str] = []
        self.cancelled: list[str] = []
        self.silent = ""
        self.accounting_queries: list[Sequence[str]] = []

    def queue(self) -> dict[str, Queued]:
        if self.silent:
            raise SlurmError(self.silent)
        return dict(self.jobs)

    def accounted(self, ids: Sequence[str]) -> dict[str, Accounted]:
        self.accounting_queries.append(ids)
        return {id: self.accounts[id] for id in ids if id in self.accounts}

    def submit(
        self, batch: JobBatch, folder: Path, request: JobRequest, payloads: list[Payload]
    ) -> None:
        answer = self.answers.pop(0) if self.answers else None
        if answer:
            raise answer
        ids = self.accept(batch.comment, len(batch.jobs))
        for entry, id in zip(batch.jobs, ids, strict=True):
            entry.id, entry.log = id, self.log(folder, id)
        self.submitted.append((ids, request, [payload.command for payload in payloads]))

    def accept(self, comment: str, jobs: int = 1) -> list[str]:
        """Add jobs to the queue and return their ids."""
        number = str(57 + len(self.jobs))
        ids = [number] if jobs == 1 else [f"{number}_{index}" for index in range(jobs)]
        self.jobs |= {id: queued(id, comment=comment) for id in ids}
        return ids

    def end(self, id: str, state: str, *result: str, record: Accounted | None = None) -> None:
        """Set a job's state, its result file and its accounting record."""
        self.jobs[id] = queued(id, state, self.jobs[id].comment)
        if result:
            result_file(self.logs[id]).write_bytes(pickle.dumps(result))
        if record:
            self.accounts[id] = record

    def adopt(self, entry: Entry, folder: Path, payload: Payload, minutes: int) -> None:
        self.adopted.append(str(entry.id))
        entry.log = self.log(folder, str(entry.id))

    def outcome(self, entry: Entry) -> tuple[str, str] | None:
        return read_outcome(result_file(entry.log)) if entry.log else None

    def log(self, folder: Path, id: str) -> str:
        self.logs[id] = str(folder / f"{id}_0_log.out")
        return self.logs[id]

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids

    def usage(self, ids: Sequence[str]) -> dict[str, JobUsage]:
        if self.silent:
            raise SlurmError(self.silent)
        return {id: self.usages[id] for id in ids if id in self.usages}

    @property
    def live(self) -> list[str]:
        return [id for id, job in self.jobs.items() if job.live]
