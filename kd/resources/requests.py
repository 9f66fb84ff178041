"""What jobs ask for: GPUs, CPUs, memory and time, computed from what they run."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from kd.common.errors import UserError
from kd.common.schema import Part
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.repeatable import is_repeated
from kd.resources.flops import WHERE, Training
from kd.resources.throughput import Basis, Rates, Speed

MARGIN = 1.5  # between the time that is expected and the time that is asked for
START_UP = 10  # minutes: imports, annotations, weights to fetch, a file system that is slow
WORKER_MB = 1500
DECODED = 20  # images a second that a CPU thread reads and cuts objects out of


class Site(Part):
    """What jobs run on, and for how long they may: keys of ``configs/default.yaml``."""

    gpus: NonNegativeInt | None = None
    gpus_per_node: PositiveInt = 8
    threads: PositiveInt | None = None
    workers: NonNegativeInt | None = None
    gpu_tflops: PositiveFloat = 5
    cpu_gflops: PositiveFloat = 30
    max_runtime: PositiveInt = 1440
    teacher_cache: NonNegativeInt = 0


@dataclass(frozen=True)
class Demand:
    """Resources of a job, by the names that Snakemake's Slurm plugins give them."""

    gpu: int
    """GPUs of all tasks."""
    tasks: int
    nodes: int
    threads: int
    """CPUs of each task."""
    mem_mb: int
    """Memory on each node."""
    runtime: int
    """Minutes."""


class Demands:
    """The demands of a plan's jobs at one scale."""

    def __init__(self, site: Site, scale: Scale, library: Library) -> None:
        self.site, self.library, own = site, library, scale.jobs
        self.gpus = own.gpus if site.gpus is None else site.gpus
        self.threads = own.threads if site.threads is None else site.threads
        self.workers = own.workers if site.workers is None else site.workers
        self.process_mb = own.mem_mb + self.workers * WORKER_MB
        self.rates = Rates(Speed(1000 * site.gpu_tflops, site.cpu_gflops), library)
        self.training = cache(self._training)
        self.prediction = cache(self._prediction)

    def check(self, runs: Iterable[Training]) -> None:
        """Raise UserError where the GPUs cannot share a run's batch."""
        trained = [run for run in runs if _is_trained(run)]
        common = math.gcd(*map(self._batch, trained))
        valid = [str(n) for n in range(1, common + 1) if common % n == 0]
        for run in trained:
            if self.gpus and self._batch(run) % self.gpus:
                raise UserError(
                    f"'gpus' of configs/default.yaml and --config: {self.gpus} GPUs cannot share "
                    f"the batch of {self._batch(run)} images of schedule '{run.schedule}' (run "
                    f"{run.name}); valid: 0 (no GPU), {', '.join(valid)}"
                )

    def expected(self, run: Training) -> tuple[float, Basis] | None:
        """Return the hours that a training is expected to take, and what says so.

        None where nothing tells.
        """
        images = self.rates.work.images(run)
        if images == 0:
            return 0.0, "measured"
        rate = self.rates.training(run, self.gpus, self.threads) if images else None
        return (images / rate.images_per_second / 3600, rate.basis) if images and rate else None

    def hours(self, run: Training) -> float | None:
        """Return the hours that a training is expected to take; None where nothing tells."""
        found = self.expected(run)
        return found and found[0]

    def teacher_cache(self, run: Training) -> int:
        """Return how many MB each process keeps of a teacher's outputs; 0 where none come again."""
        return self.site.teacher_cache if is_repeated(run.composed) else 0

    def crops(self, dataset: str) -> Demand:
        """Return the demand of cutting out a data set's objects."""
        found = self.rates.work.counts(dataset)
        hours = found and (found.train + found.test) / DECODED / self.threads / 3600
        return self._demand(0, hours, self.threads)

    def _training(self, run: Training) -> Demand:
        found = self._demand(self.gpus if _is_trained(run) else 0, self.hours(run))
        kept = found.tasks // found.nodes * self.teacher_cache(run)
        return replace(found, mem_mb=found.mem_mb + kept)

    def _prediction(self, run: Training) -> Demand:
        gpus = min(self.gpus, 1)
        images, rate = self.rates.work.tested(run), self.rates.prediction(run, gpus, self.threads)
        return self._demand(gpus, images and rate and images / rate / 3600)

    def _demand(self, gpus: int, hours: float | None, threads: int | None = None) -> Demand:
        tasks, nodes = max(gpus, 1), self._nodes(gpus)
        longest = self.site.max_runtime
        minutes = longest if hours is None else START_UP + math.ceil(60 * MARGIN * hours)
        return Demand(
            gpu=gpus,
            tasks=tasks,
            nodes=nodes,
            threads=threads or self.threads + self.workers,
            mem_mb=tasks // nodes * self.process_mb,
            runtime=min(minutes, longest),
        )

    def _nodes(self, gpus: int) -> int:
        """Return how many nodes have room, with the same number of GPUs on each."""
        least = math.ceil(max(gpus, 1) / self.site.gpus_per_node)
        return next(nodes for nodes in range(least, gpus + 2) if gpus % nodes == 0)

    def _batch(self, run: Training) -> int:
        return self.library.schedule(run.schedule, WHERE).batch_size


def _is_trained(run: Training) -> bool:
    return "published_checkpoint" not in run.config
