"""Snakemake's official tests of executors, as processes of this machine and on a cluster."""

import os

import pytest
import snakemake.common.tests
from snakemake_executor_plugin_submitit import ExecutorSettings


class OnThisBackend(snakemake.common.tests.TestWorkflowsLocalStorageBase):
    """The suite, with the plugin as the executor."""

    cluster = ""

    def get_executor(self) -> str:
        return "submitit"

    def get_executor_settings(self) -> ExecutorSettings:
        return ExecutorSettings(cluster=self.cluster, poll_seconds=1, poll_max_seconds=2)


class TestOfficialSuiteLocally(OnThisBackend):
    __test__ = True
    cluster = "local"


@pytest.mark.skipif(
    os.environ.get("SUBMITIT_TEST_CLUSTER") != "slurm",
    reason="SUBMITIT_TEST_CLUSTER is not 'slurm'",
)
class TestOfficialSuiteOnSlurm(OnThisBackend):
    __test__ = True
    cluster = "slurm"
