"""A folder of one's own, no surrounding job, and a cluster that needs no Slurm."""

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
    """Work in a folder of one's own, outside any job."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "SUBMITIT_", "SNAKEMAKE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return the cluster that a submitter or executor made in this test submits to."""
    made = Cluster()
    monkeypatch.setattr(backends, "choose", lambda settings: made)
    return made


@pytest.fixture
def submitter(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> Callable[..., Submitter]:
    """Return what a new Snakemake process submits with; its words are in ``caplog``."""
    caplog.set_level(logging.INFO)

    def started(**settings: Any) -> Submitter:
        return Submitter(ExecutorSettings(**settings), logging.getLogger("plugin"))

    return started
