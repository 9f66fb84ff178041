"""An executor without a thread, whose queries of the queue a test requests."""

import asyncio
from collections.abc import Callable
from typing import Any

from fake_cluster import Job, job
from snakemake_executor_plugin_submitit import Executor
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo


class ManualExecutor(Executor):
    """An executor that queries the queue on request and records its reports."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self.active: list[SubmittedJobInfo] = []
        super().__init__(workflow, logger)

    def _wait_thread(self) -> None:
        """Do nothing; the test queries the queue."""

    def format_job_exec(self, job: Any) -> str:
        return str(job.shellcmd)

    def report_job_submission(self, job_info: SubmittedJobInfo, register_job: bool = True) -> None:
        self.active.append(job_info)

    def report_job_success(self, job_info: SubmittedJobInfo) -> None:
        self.done.append(self.run(job_info))

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str = "", **options: Any) -> None:
        self.failed[self.run(job_info)] = msg

    @staticmethod
    def run(info: SubmittedJobInfo) -> str:
        return str(info.job.wildcards_dict["run"])

    def query(self, times: int = 1) -> list[str]:
        """Query the queue; return the runs that are still active."""

        async def active() -> list[SubmittedJobInfo]:
            return [info async for info in self.check_active_jobs(self.active)]

        for _ in range(times):
            self.active = asyncio.run(active())
        return [self.run(info) for info in self.active]

    def start(self, *runs: str, **options: Any) -> list[Job]:
        """Pass jobs to the executor and query the queue once, so that they are submitted."""
        jobs = [job(run, **options) for run in runs]
        for new_job in jobs:
            self.run_job(new_job)
        self.query()
        return jobs


Start = Callable[..., ManualExecutor]
