"""Resource requests of jobs: GPUs, CPUs, memory and time, computed from their runs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from kd.common.errors import UserError
from kd.common.lists import divisors
from kd.common.schema import Part
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.pipelines import is_repeated
from kd.config.run import AnyRun
from kd.resources.throughput import Basis, DeviceSpeed, Throughput

MARGIN = 1.5  # requested time over expected time
MEMORY_MARGIN = 1.3  # requested memory over that of a rehearsal, whose images may be smaller
START_UP_MINUTES = 10  # imports, annotations, downloads of weights, a slow file system
REHEARSAL_MINUTES = 120
WORKER_MB = 1500
OPTIONS = "configs/default.yaml and --config"
"""File and argument with the options of jobs, in errors."""
IMAGES_CUT_PER_SECOND = 20  # images that a CPU thread decodes and cuts objects out of


class JobOptions(Part):
    """Resources that jobs may use: keys of ``configs/default.yaml``."""

    gpus: NonNegativeInt | None = None
    """GPUs of a training, which share its batch; 0 for CPUs, null for the scale's number."""
    gpus_per_node: PositiveInt = 8
    """Largest number of GPUs on one machine; a training with more uses several machines."""
    accumulate: PositiveInt = 1
    """Parts in which each process computes its share of a batch, one after the other. More parts
    need less memory; results stay the same up to rounding."""
    threads: PositiveInt | None = None
    """CPU threads of each process; null for the scale's number."""
    workers: NonNegativeInt | None = None
    """Data loading processes of each process; null for the scale's number."""
    gpu_tflops: PositiveFloat = 5
    """Tera multiply-adds a second that training reaches on a GPU, until one has been measured."""
    cpu_gflops: PositiveFloat = 30
    """Giga multiply-adds a second of a CPU thread, until a training has been measured."""
    max_runtime: PositiveInt = 1440
    """Longest job that the site allows, in minutes."""
    teacher_cache: NonNegativeInt = 0
    """MB of teacher outputs that each process caches, in memory and on disk."""


class RehearsalOptions(Part):
    """Size of rehearsals: keys of ``configs/default.yaml``."""

    rehearsal_steps: Annotated[int, Field(ge=2)] | None = None
    """Training steps of a rehearsal, 2 or more; null for 20 on a GPU and 2 on a CPU."""
    rehearsal_batch: PositiveInt | None = None
    """Most images of a step in a rehearsal; null for the batch of the run."""
    rehearsal_images: PositiveInt | None = None
    """Most images of an annotation file or image set of a stand-in; null for the published number
    of COCO and VOC."""


@dataclass(frozen=True)
class ResourceRequest:
    """Requested resources of a job, by the names of Snakemake's Slurm plugins."""

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


class ResourceRequests:
    """Resource requests of a plan's jobs at one scale."""

    def __init__(self, options: JobOptions, scale: Scale, library: Library) -> None:
        self.options, defaults = options, scale.jobs
        self.gpus = defaults.gpus if options.gpus is None else options.gpus
        self.threads = defaults.threads if options.threads is None else options.threads
        self.workers = defaults.workers if options.workers is None else options.workers
        self.process_mb = defaults.mem_mb + self.workers * WORKER_MB
        speed = DeviceSpeed(gpu=1000 * options.gpu_tflops, thread=options.cpu_gflops)
        self.throughput = Throughput(speed, library, options.accumulate)
        self.flops = self.throughput.flops
        self.training = cache(self._training)
        self.prediction = cache(self._prediction)

    def check(self, runs: Iterable[AnyRun]) -> None:
        """Raise UserError if the batch of a run cannot be divided among GPUs and parts."""
        trained = [run for run in runs if _is_trained(run)]
        divisor = math.gcd(*(run.composed.batch_size for run in trained))
        for run in trained:
            if self.gpus and run.composed.batch_size % self.gpus:
                valid = ", ".join(map(str, divisors(divisor)))
                raise UserError(
                    f"'gpus' of {OPTIONS}: {self.gpus} GPUs cannot share {_batch(run)}; valid: "
                    f"0 (no GPU), {valid}"
                )
        processes = max(self.gpus, 1)
        for run in trained:
            images = run.composed.batch_size // processes
            if images % self.options.accumulate:
                shared = f" on each of {processes} GPUs ('gpus')" if processes > 1 else ""
                valid = ", ".join(map(str, divisors(divisor // processes)))
                raise UserError(
                    f"'accumulate' of {OPTIONS}: {images} images{shared} of {_batch(run)} cannot "
                    f"be computed in {self.options.accumulate} equal parts; valid: {valid}"
                )

    def expected(self, run: AnyRun) -> tuple[float, Basis] | None:
        """Return the expected hours of a training and their basis; None without an estimate."""
        images = self.flops.training_images(run)
        if images == 0:
            return 0.0, "measured"
        estimate = self.throughput.training(run, self.gpus, self.threads) if images else None
        if not images or estimate is None:
            return None
        return images / estimate.images_per_second / 3600, estimate.basis

    def hours(self, run: AnyRun) -> float | None:
        """Return the expected hours of a training; None without an estimate."""
        expected = self.expected(run)
        return expected and expected[0]

    def teacher_cache(self, run: AnyRun) -> int:
        """Return the MB of teacher outputs that each process caches; 0 if no image is repeated."""
        return self.options.teacher_cache if is_repeated(run.composed) else 0

    def crops(self, dataset: str) -> ResourceRequest:
        """Return the request of the job that cuts out a data set's objects."""
        sizes = self.flops.split_sizes(dataset)
        hours = None
        if sizes:
            images = sizes.train_images + sizes.test_images
            hours = images / IMAGES_CUT_PER_SECOND / self.threads / 3600
        return self._request(0, hours, self.threads)

    def rehearsal(self) -> ResourceRequest:
        """Return the request of a rehearsal: that of the training, for a short time."""
        minutes = min(REHEARSAL_MINUTES, self.options.max_runtime)
        return replace(self._request(self.gpus, None), runtime=minutes)

    def _training(self, run: AnyRun) -> ResourceRequest:
        gpus = self.gpus if _is_trained(run) else 0
        request = self._request(gpus, self.hours(run), process_mb=self._process_mb(run))
        cache_mb = request.tasks // request.nodes * self.teacher_cache(run)
        return replace(request, mem_mb=request.mem_mb + cache_mb)

    def _process_mb(self, run: AnyRun) -> int:
        """Return the memory of a training process: that of its rehearsal, or the scale's."""
        rehearsal = self.throughput.rehearsals.of(run)
        if rehearsal is None:
            return self.process_mb
        images_at_once = run.composed.batch_size / max(self.gpus, 1) / self.options.accumulate
        if not rehearsal.has_memory_of(self.gpus, images_at_once):
            return self.process_mb
        return math.ceil(MEMORY_MARGIN * rehearsal.process_mb) + self.workers * WORKER_MB

    def _prediction(self, run: AnyRun) -> ResourceRequest:
        gpus = min(self.gpus, 1)
        images = self.flops.test_images(run)
        images_per_second = self.throughput.prediction(run, gpus, self.threads)
        hours = None
        if images is not None and images_per_second:
            hours = images / images_per_second / 3600
        return self._request(gpus, hours)

    def _request(
        self,
        gpus: int,
        hours: float | None,
        threads: int | None = None,
        process_mb: int | None = None,
    ) -> ResourceRequest:
        """Return the request of a job that is expected to run for ``hours``, None if unknown."""
        tasks, nodes = max(gpus, 1), self._nodes(gpus)
        longest = self.options.max_runtime
        minutes = longest if hours is None else START_UP_MINUTES + math.ceil(60 * MARGIN * hours)
        return ResourceRequest(
            gpu=gpus,
            tasks=tasks,
            nodes=nodes,
            threads=threads or self.threads + self.workers,
            mem_mb=tasks // nodes * (process_mb or self.process_mb),
            runtime=min(minutes, longest),
        )

    def _nodes(self, gpus: int) -> int:
        """Return the smallest number of nodes with the same number of GPUs on each."""
        fewest = math.ceil(max(gpus, 1) / self.options.gpus_per_node)
        return next(nodes for nodes in range(fewest, gpus + 2) if gpus % nodes == 0)


def _batch(run: AnyRun) -> str:
    """Return the words that name the batch of a run in an error."""
    return (
        f"the batch of {run.composed.batch_size} images of schedule '{run.schedule}' (run "
        f"{run.name})"
    )


def _is_trained(run: AnyRun) -> bool:
    return run.composed.published_checkpoint is None
