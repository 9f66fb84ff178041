"""What a job asks the cluster for: Snakemake's resources in sbatch's terms."""

import ast
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

    from snakemake_executor_plugin_submitit.settings import ExecutorSettings

OWN = frozenset(
    {
        "account",
        "array",
        "comment",
        "constraint",
        "cpus-per-task",
        "error",
        "gpus",
        "gpus-per-node",
        "gpus-per-task",
        "gres",
        "job-name",
        "mem",
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
"""sbatch options that have a resource or a setting, or that the plugin needs itself."""


QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


UNTIL_IT_LISTENS = "trap '' USR2"
"""The job does not die of a warning that comes before submitit has begun to listen."""


class RequestError(Exception):
    """A resource or setting that no job can be made of."""


@dataclass(frozen=True)
class JobRequest:
    """The resources of one job. Jobs with equal requests share a job array."""

    name: str
    minutes: int
    mem_mb: int
    cpus: int
    nodes: int
    tasks_per_node: int
    gpus: int
    gpu_model: str
    options: tuple[tuple[str, str | bool], ...]

    def with_memory(self, mem_mb: int) -> "JobRequest":
        return replace(self, mem_mb=mem_mb)

    @property
    def gpus_per_node(self) -> int:
        return -(-self.gpus // self.nodes)

    def sbatch(self, settings: "ExecutorSettings", comment: str) -> dict[str, Any]:
        """Return the parameters of submitit's executor."""
        options = dict(self.options)
        return {
            "name": self.name,
            "timeout_min": self.minutes,
            "nodes": self.nodes,
            "tasks_per_node": self.tasks_per_node,
            "cpus_per_task": self.cpus,
            "stderr_to_stdout": True,
            "slurm_mem": f"{self.mem_mb}MB",
            "slurm_setup": [UNTIL_IT_LISTENS, *settings.setup.splitlines()],
            "slurm_use_srun": False,
            "slurm_array_parallelism": settings.array_size,
            "slurm_additional_parameters": {
                "requeue": True,
                # B: to the batch shell alone, which is replaced by the payload's Python
                "signal": f"B:USR2@{settings.signal_seconds}",
                "comment": comment,
                **self._gpu_option(settings.gpu_flag),
                **options,
            },
        }

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
    """Return what a Snakemake job asks for; RequestError on a value that sbatch cannot be given."""
    resources = job.resources
    nodes, tasks = _count(resources, "nodes", 1), _count(resources, "tasks", 1)
    if tasks % nodes:
        raise RequestError(f"resource 'tasks' is {tasks}, no multiple of the {nodes} nodes")
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
    return JobRequest(
        name=job.name,
        minutes=_count(resources, "runtime", 60),
        mem_mb=_count(resources, "mem_mb", 4000),
        cpus=max(1, job.threads),
        nodes=nodes,
        tasks_per_node=tasks // nodes,
        gpus=_count(resources, "gpu", 0, least=0),
        gpu_model=str(resources.get("gpu_model") or settings.gpu_model),
        options=tuple(sorted(options.items())),
    )


def extra_options(text: str, where: str) -> dict[str, str | bool]:
    """Return further sbatch options as a dict; RequestError for one that is not free to set."""
    options: dict[str, str | bool] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RequestError(f"{where}: {error} in: {text}") from None
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise RequestError(f"{where}: '{word}' is not of the form --option or --option=value")
        if name in OWN:
            raise RequestError(f"{where}: '--{name}' has a resource or a setting of its own")
        options[name] = value if equals else True
    return options


def shell_quoted(command: str) -> str:
    """Return a command of Snakemake's with its arguments quoted for the shell.

    Snakemake quotes them as Python would, which to a shell is another text where a quote, a dollar
    or a backslash is in it.
    """
    return QUOTED.sub(lambda found: shlex.quote(ast.literal_eval(found[0])), command)


def _count(resources: Mapping[str, Any], name: str, default: int, least: int = 1) -> int:
    value = resources.get(name, default)
    if not isinstance(value, int) or value < least:
        raise RequestError(f"resource '{name}' is {value!r}, not a whole number from {least}")
    return value
