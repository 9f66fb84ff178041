"""An empty working folder, no surrounding job, and a fake cluster."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snakemake_executor_plugin_submitit import backends
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.submission import Submitter

from tests.plugin.jobs import Cluster


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, without the variables of a surrounding job."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "SUBMITIT_", "SNAKEMAKE_")):
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
