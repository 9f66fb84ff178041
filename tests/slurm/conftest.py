"""Clusters, started when first asked for; a case with its Snakemake and its eye on the queue."""

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
    """Return a cluster by its flavour."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    started: dict[str, Lab] = {}
    refused: list[BaseException] = []

    def lab(flavour: str) -> Lab:
        if refused:
            raise refused[0]
        if flavour not in started:
            try:
                started[flavour] = Lab(flavour, FIRST_PORT + 500 * worker)
            except pytest.skip.Exception as reason:
                refused.append(reason)  # packages are not looked for again by each test
                raise
        return started[flavour]

    yield lab
    for cluster in started.values():
        cluster.stop()


@pytest.fixture
def lab(labs: Callable[[str], Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Return a cluster with an empty queue, of the flavour that the test is marked with."""
    marker = request.node.get_closest_marker("flavour")
    cluster = labs(marker.args[0] if marker else "accounting")
    yield cluster
    cluster.reset()


class Case:
    """A case of the failure matrix: its folder, its Snakemakes, and what is said of it."""

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
        """Start Snakemake on a training of the tiny study."""
        command = [training.target, "--workflow-profile", "none", *arguments]
        command += [*TINY, *training.settings]
        return self.snakemake(*command, **environment)

    def fails(self, flow: Flow, name: str, cause: str) -> str:
        """Check that Snakemake fails, and says why in one line with the log; return the cause."""
        assert flow.wait() == 1, flow.output
        (line,) = flow.lines(rf"message: .*name={name}\)")
        assert re.search(rf"\): {cause}", line), line
        assert f"log/{name}.log" in line or "logs/slurm/" in line
        return line.partition("): ")[2].partition("; log:")[0]

    def finishes(self, *arguments: str, seconds: float = 120) -> Flow:
        """Run Snakemake, which must succeed."""
        flow = self.snakemake(*arguments)
        assert flow.wait(seconds) == 0, flow.output
        return flow

    def has_nothing_to_do(self) -> None:
        """Check that the next Snakemake repeats nothing."""
        assert self.finishes("--dry-run").lines("Nothing to be done")

    def wrap_sbatch(self, script: str) -> str:
        """Return a PATH whose sbatch is a script; ``$sbatch`` is the real one."""
        folder = self.folder / "bin"
        folder.mkdir()
        real = shutil.which("sbatch")
        (folder / "sbatch").write_text(f"#!/bin/bash\nsbatch={real}\n{script}\n")
        (folder / "sbatch").chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"

    def shows(self, what: str) -> None:
        """Say in one line what happened, for the matrix."""
        self.note("slurm", f"{what}, {time.monotonic() - self.started:.0f} s")


@pytest.fixture
def case(lab: Lab, tmp_path: Path, record_property: Callable[..., None]) -> Iterator[Case]:
    """Watch the queue during a test, which fails if there ever were two jobs for one output."""
    with Sampler(lab, tmp_path) as sampler:
        made = Case(lab, tmp_path, sampler, record_property)
        yield made
    for flow in made.flows:
        if not flow.is_over:
            flow.kill()
    assert not sampler.duplicates, f"two jobs for one output: {sampler.duplicates[:5]}"
