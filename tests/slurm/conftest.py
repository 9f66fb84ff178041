"""Fixtures: test clusters, started on first use, and cases with Snakemake and a queue sampler."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.flow import QUICK, Flow, Sampler
from tests.slurm.lab import FIRST_PORT, Lab
from tests.slurm.projects import TINY, Training


@pytest.fixture(scope="session")
def labs() -> Iterator[Callable[[str], Lab]]:
    """Return a function that starts the cluster of a flavor on first use."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    clusters: dict[str, Lab] = {}
    skips: list[BaseException] = []

    def lab(flavor: str) -> Lab:
        if skips:
            raise skips[0]
        if flavor not in clusters:
            try:
                clusters[flavor] = Lab(flavor, FIRST_PORT + 500 * worker)
            except pytest.skip.Exception as reason:
                skips.append(reason)  # later tests must not try to install packages again
                raise
        return clusters[flavor]

    yield lab
    for cluster in clusters.values():
        cluster.stop()


@pytest.fixture
def lab(labs: Callable[[str], Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Yield a cluster with an empty queue, of the flavor that marks the test."""
    marker = request.node.get_closest_marker("flavor")
    cluster = labs(marker.args[0] if marker else "accounting")
    yield cluster
    cluster.reset()


class Case:
    """A case of the failure matrix: its folder, its Snakemake processes, and its report."""

    def __init__(self, lab: Lab, folder: Path, sampler: Sampler, note: Callable[..., None]) -> None:
        self.lab, self.folder, self.sampler, self.note = lab, folder, sampler, note
        self.flows: list[Flow] = []
        self.started = time.monotonic()

    def snakemake(self, *arguments: str, **environment: str) -> Flow:
        """Start Snakemake in the case's folder."""
        flow = Flow(self.folder, self.lab.environment(**environment), *QUICK, *arguments)
        self.flows.append(flow)
        return flow

    def training(self, training: Training, *arguments: str, **environment: str) -> Flow:
        """Start Snakemake on one training of the tiny study."""
        command = [training.target, "--workflow-profile", "none", *arguments]
        command += [*TINY, *training.settings]
        return self.snakemake(*command, **environment)

    def fails(self, flow: Flow, name: str, cause: str) -> str:
        """Check that Snakemake fails and prints cause and log in one line; return the cause."""
        assert flow.wait() == 1, flow.output
        (line,) = flow.lines(rf"message: .*name={name}\)")
        assert re.search(rf"\): {cause}", line), line
        assert f"log/{name}.log" in line or "logs/slurm/" in line
        return line.partition("): ")[2].partition("; log:")[0]

    def finishes(self, *arguments: str, seconds: float = 120) -> Flow:
        """Run Snakemake and check that it succeeds."""
        flow = self.snakemake(*arguments)
        assert flow.wait(seconds) == 0, flow.output
        return flow

    def has_nothing_to_do(self) -> None:
        """Check that the next Snakemake has nothing to do."""
        assert self.finishes("--dry-run").lines("Nothing to be done")

    def wrap_sbatch(self, script: str) -> str:
        """Replace sbatch by a script, in which ``$sbatch`` is the real one; return the PATH."""
        folder = self.folder / "bin"
        folder.mkdir()
        real = shutil.which("sbatch")
        (folder / "sbatch").write_text(f"#!/bin/bash\nsbatch={real}\n{script}\n")
        (folder / "sbatch").chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"

    def report(self, text: str) -> None:
        """Set the line of the case in the failure matrix."""
        self.note("slurm", f"{text}, {time.monotonic() - self.started:.0f} s")


@pytest.fixture
def case(lab: Lab, tmp_path: Path, record_property: Callable[..., None]) -> Iterator[Case]:
    """Sample the queue during a test; fail if two jobs for one output were live at once."""
    with Sampler(lab, tmp_path) as sampler:
        new_case = Case(lab, tmp_path, sampler, record_property)
        yield new_case
    for flow in new_case.flows:
        if not flow.is_over:
            flow.kill()
    assert not sampler.duplicates, f"two jobs for one output: {sampler.duplicates[:5]}"
