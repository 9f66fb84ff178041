"""An empty working folder, no surrounding job, and a fake cluster."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_cluster import Cluster
from manual_executor import ManualExecutor
from snakemake_executor_plugin_submitit import backends, common_settings
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.submission import Submitter


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, without the variables of a surrounding job."""
    for name in list(os.environ):
        of_a_job = name.startswith(("SLURM_", "SUBMITIT_", "SNAKEMAKE_"))
        if of_a_job and name not in ("SLURM_CONF", "SUBMITIT_TEST_CLUSTER"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return the fake cluster that submitters and executors of a test submit to."""
    fake = Cluster()
    monkeypatch.setattr(backends, "choose", lambda settings: fake)
    return fake


@pytest.fixture
def new_submitter(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> Callable[..., Submitter]:
    """Return a function that creates the submitter of a new Snakemake process."""
    caplog.set_level(logging.INFO)

    def create(**settings: Any) -> Submitter:
        return Submitter(ExecutorSettings(**settings), logging.getLogger("plugin"))

    return create


@pytest.fixture
def new_executor(
    cluster: Cluster, folder: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., ManualExecutor]]:
    """Return a function that creates executors for the fake cluster."""
    caplog.set_level(logging.INFO)
    (folder / "logs").mkdir()
    executors: list[ManualExecutor] = []

    def start(**settings: Any) -> ManualExecutor:
        remote = SimpleNamespace(
            max_status_checks_per_second=10, jobname="{jobid}", jobscript=None,
            seconds_between_status_checks=5, immediate_submit=False,
        )  # fmt: skip
        workflow = SimpleNamespace(
            executor_settings=ExecutorSettings(**settings), remote_execution_settings=remote,
            storage_settings=SimpleNamespace(shared_fs_usage=[]), main_snakefile="Snakefile",
            executor_plugin=SimpleNamespace(common_settings=common_settings), dag=None,
        )  # fmt: skip
        Path(".snakemake").mkdir(exist_ok=True)
        executors.append(ManualExecutor(workflow, logging.getLogger("plugin")))
        return executors[-1]

    yield start
    for started in executors:
        started.shutdown()
