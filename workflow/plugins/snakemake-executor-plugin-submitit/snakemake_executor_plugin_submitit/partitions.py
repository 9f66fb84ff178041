"""Choice of a partition by the resources of a job, from a file of the partitions' limits."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

LIMITS = {
    "max_runtime": "minutes",
    "max_mem_mb": "mem_mb",
    "max_mem_mb_per_cpu": "mem_mb_per_cpu",
    "max_cpus_per_task": "cpus",
    "max_nodes": "nodes",
    "max_tasks": "tasks",
    "max_tasks_per_node": "tasks_per_node",
    "max_gpu": "gpus",
}
"""Keys of the file, and the quantity of a job that each limits."""

RESOURCES = {
    "minutes": "runtime",
    "cpus": "threads",
    "gpus": "gpu",
    "mem_mb_per_cpu": "mem_mb / threads",
    "tasks_per_node": "tasks / nodes",
}
"""Names of quantities in Snakemake, where they differ."""

CHOICES = {"available_gpu_models": "gpu_model", "available_constraints": "constraint"}
"""Keys of the file with a list of values, and the text of a job that must be one of them."""


LARGEST = 1e15
"""Numbers from here on, and infinity, are no limits of a machine."""


class PartitionError(Exception):
    """Faulty file of partitions, or a job that fits into none of them."""


@dataclass(frozen=True)
class Partition:
    """A partition and its limits by quantity; what has no limit is not restricted."""

    name: str
    limits: dict[str, float] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)

    def obstacles(self, job: dict[str, Any]) -> list[str]:
        """Return the reasons why a job does not fit, in words; none if it fits."""
        exceeded = [
            f"{RESOURCES.get(name, name)} {job[name]:g} exceeds {limit:g}"
            for name, limit in self.limits.items()
            if job[name] > limit
        ]
        absent = [
            f"no {name} '{job[name]}'"
            for name, values in self.choices.items()
            if job[name] and job[name] not in values
        ]
        return exceeded + absent

    def unused(self, job: dict[str, Any]) -> tuple[bool, float]:
        """Return what a fitting job would leave unused: GPUs that it does not need, and a mean.

        The mean is that of the unused shares of all limits, from 0 to 1.
        """
        wasted = self.limits.get("gpus", 0) > 0 and job["gpus"] == 0
        shares = [1 - job[name] / limit for name, limit in self.limits.items() if limit]
        return wasted, sum(shares) / len(shares) if shares else 1.0


@functools.cache
def read_partitions(path: Path) -> list[Partition]:
    """Return the partitions of a YAML file; PartitionError for an absent or faulty one."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PartitionError(f"{path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise PartitionError(f"{path}: is nested too deeply; write 'key: value'") from None
    partitions = content.get("partitions") if isinstance(content, dict) else None
    if not isinstance(partitions, dict) or not partitions:
        raise PartitionError(f"{path}: write a key 'partitions' with the limits of each partition")
    return [_partition(path, name, limits) for name, limits in partitions.items()]


def _partition(path: Path, key: Any, content: Any) -> Partition:
    name = str(key)
    where = f"{path}: partitions: {name if name.isprintable() else shortened(name)}"
    if key is None or not name or any(map(str.isspace, name)):
        raise PartitionError(f"{where}: write the name of a partition, without spaces")
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise PartitionError(f"{where}: write its limits as 'key: value'")
    limits, choices = {}, {}
    for key, value in content.items():
        if key in LIMITS:
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value < LARGEST
            ):
                raise PartitionError(
                    f"{where}: {key} is {shortened(value)}: set a number of at least 0"
                )
            limits[LIMITS[key]] = float(value)
        elif key in CHOICES:
            if not isinstance(value, list):
                raise PartitionError(f"{where}: {key} is {shortened(value)}: set a list")
            choices[CHOICES[key]] = [str(one) for one in value]
        else:
            valid = ", ".join([*LIMITS, *CHOICES])
            raise PartitionError(f"{where}: no limit '{key}'; valid: {valid}")
    return Partition(name, limits, choices)


def choose(partitions: list[Partition], job: dict[str, Any]) -> str:
    """Return the name of the partition that a job fits into most tightly.

    A job without GPUs goes to a partition with GPUs only if it fits into no other. PartitionError
    if the job fits into none.
    """
    fitting = [partition for partition in partitions if not partition.obstacles(job)]
    if not fitting:
        reasons = "; ".join(f"{one.name}: {', '.join(one.obstacles(job))}" for one in partitions)
        raise PartitionError(f"the job fits into no partition ({reasons})")
    return min(fitting, key=lambda partition: partition.unused(job)).name
