"""Resources that a job requests from the cluster: Snakemake's resources as sbatch options."""

import ast
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_plugin_submitit import partitions

if TYPE_CHECKING:
    from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

    from snakemake_executor_plugin_submitit.settings import ExecutorSettings

RESERVED = frozenset(
    {
        "account",
        "array",
        "comment",
        "clusters",
        "constraint",
        "cpus-per-task",
        "error",
        "gpus",
        "gpus-per-node",
        "gpus-per-task",
        "gres",
        "job-name",
        "mem",
        "no-requeue",
        "nodes",
        "ntasks-per-node",
        "open-mode",
        "output",
        "partition",
        "qos",
        "requeue",
        "reservation",
        "signal",
        "time",
        "wrap",
    }
)
"""sbatch options that have a resource or a setting, or that the plugin sets itself."""


QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


LEAST_MB = 500
"""Least memory of a job, because Snakemake in the job takes about 140 MB beside the command."""

IGNORE_EARLY_WARNING = "trap '' USR2"
"""Shell line that makes a job ignore the warning signal until submitit's handler is set."""


class RequestError(Exception):
    """Invalid resource or setting of a job."""


@dataclass(frozen=True)
class JobRequest:
    """Resources of one job. Jobs with equal requests share a job array."""

    name: str
    minutes: int
    mem_mb: int
    cpus: int
    nodes: int
    tasks_per_node: int
    gpus: int
    gpu_model: str
    options: tuple[tuple[str, str | bool], ...]
    excluded_nodes: tuple[str, ...] = ()

    def with_memory(self, mem_mb: int) -> "JobRequest":
        return replace(self, mem_mb=mem_mb)

    def without_nodes(self, nodes: Iterable[str]) -> "JobRequest":
        """Return a request that excludes these nodes, and no others."""
        return replace(self, excluded_nodes=tuple(sorted(set(nodes))))

    @property
    def gpus_per_node(self) -> int:
        return -(-self.gpus // self.nodes)

    def partition(self, settings: "ExecutorSettings") -> dict[str, str]:
        """Return the option that names a partition of the setting 'partitions', if it decides.

        Raise RequestError if the file is faulty, or if the job fits into no partition.
        """
        options = dict(self.options)
        if not settings.partitions or "partition" in options:
            return {}
        quantities = {
            **{name: getattr(self, name) for name in ("minutes", "mem_mb", "cpus", "nodes")},
            "mem_mb_per_cpu": self.mem_mb / (self.cpus * self.tasks_per_node),
            "tasks": self.nodes * self.tasks_per_node,
            "tasks_per_node": self.tasks_per_node,
            "gpus": self.gpus_per_node,
            "gpu_model": self.gpu_model,
            "constraint": str(options.get("constraint", "")),
        }
        try:
            limits = partitions.read_partitions(Path(settings.partitions))
            return {"partition": partitions.choose(limits, quantities)}
        except partitions.PartitionError as error:
            raise RequestError(str(error)) from None

    def sbatch(self, settings: "ExecutorSettings", comment: str) -> dict[str, Any]:
        """Return the parameters for submitit's executor; raise RequestError as partition does."""
        options = {**dict(self.options), **self.partition(settings)}
        return {
            "name": settings.job_name_prefix + self.name,
            "timeout_min": self.minutes,
            "nodes": self.nodes,
            "tasks_per_node": self.tasks_per_node,
            "cpus_per_task": self.cpus,
            "stderr_to_stdout": True,
            "slurm_mem": f"{self.mem_mb}MB",
            "slurm_setup": [IGNORE_EARLY_WARNING, *settings.setup.splitlines()],
            "slurm_use_srun": False,
            "slurm_array_parallelism": settings.array_size,
            "slurm_additional_parameters": {
                "requeue" if settings.requeue == "yes" else "no-requeue": True,
                # B: to the batch shell alone, which the payload's Python has replaced
                "signal": f"B:USR2@{settings.signal_seconds}",
                "comment": comment,
                **self._gpu_option(settings.gpu_flag),
                **options,
                **self._exclusion(options),
                **({"clusters": settings.clusters} if settings.clusters else {}),
            },
        }

    def _exclusion(self, options: Mapping[str, str | bool]) -> dict[str, str]:
        """Return the option that excludes nodes, those of the user's option among them."""
        if not self.excluded_nodes:
            return {}
        nodes = [str(options["exclude"])] if options.get("exclude") else []
        return {"exclude": ",".join([*nodes, *self.excluded_nodes])}

    def _gpu_option(self, flag: str) -> dict[str, str]:
        if not self.gpus:
            return {}
        model = f"{self.gpu_model}:" if self.gpu_model else ""
        if flag == "gres":
            return {"gres": f"gpu:{model}{self.gpus_per_node}"}
        per_task = -(-self.gpus // (self.nodes * self.tasks_per_node))
        counts = {"gpus": self.gpus, "gpus-per-node": self.gpus_per_node, "gpus-per-task": per_task}
        return {flag: f"{model}{counts[flag]}"}


def request_of(job: "JobExecutorInterface", settings: "ExecutorSettings") -> JobRequest:
    """Return the request of a Snakemake job; raise RequestError for an invalid resource."""
    resources = job.resources
    nodes, tasks = _count(resources, "nodes", 1), _count(resources, "tasks", 1)
    if tasks % nodes:
        raise RequestError(f"resource 'tasks' is {tasks}: set a multiple of the {nodes} nodes")
    options: dict[str, str | bool] = {}
    for option, resource in (
        ("partition", "slurm_partition"),
        ("account", "slurm_account"),
        ("qos", "qos"),
        ("constraint", "constraint"),
        ("reservation", "reservation"),
    ):
        value = resources.get(resource) or getattr(settings, option)
        if value:
            options[option] = str(value)
    options |= extra_options(settings.extra, "--submitit-extra")
    options |= extra_options(str(resources.get("slurm_extra") or ""), "resource 'slurm_extra'")
    request = JobRequest(
        name=job.name,
        minutes=_count(resources, "runtime", 60),
        mem_mb=max(LEAST_MB, _count(resources, "mem_mb", 4000)),
        cpus=max(1, job.threads),
        nodes=nodes,
        tasks_per_node=tasks // nodes,
        gpus=_count(resources, "gpu", 0, least=0),
        gpu_model=str(resources.get("gpu_model") or settings.gpu_model),
        options=tuple(sorted(options.items())),
    )
    request.partition(settings)  # raises an error before the job waits in a queue
    return request


def extra_options(text: str, where: str) -> dict[str, str | bool]:
    """Parse further sbatch options; raise RequestError for malformed and reserved ones."""
    options: dict[str, str | bool] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RequestError(f"{where}: {error} in: {text}") from None
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise RequestError(f"{where}: write '{word}' as --option or --option=value")
        if name in RESERVED:
            raise RequestError(f"{where}: '--{name}' is not allowed; use its resource or setting")
        options[name] = value if equals else True
    return options


def shell_quoted(command: str) -> str:
    """Return Snakemake's command with its arguments quoted for the shell.

    Snakemake writes arguments as Python literals. A shell reads these differently if they contain
    quotes, dollar signs or backslashes.
    """
    return QUOTED.sub(lambda literal: shlex.quote(ast.literal_eval(literal[0])), command)


def _count(resources: Mapping[str, Any], name: str, default: int, least: int = 1) -> int:
    value = resources.get(name, default)
    if not isinstance(value, int) or value < least:
        raise RequestError(
            f"resource '{name}' is {value!r}: set a whole number of at least {least}"
        )
    return value
