"""Resources and settings become parameters of submitit's Slurm executor."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from snakemake_executor_plugin_submitit.request import RequestError, request_of, shell_quoted
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from submitit import SlurmExecutor
from submitit.slurm.slurm import _make_sbatch_string

from tests.plugin.jobs import Job


def sbatch(settings: dict[str, Any] | None = None, **job: Any) -> dict[str, Any]:
    """Return the parameters of a job, further sbatch options among the others."""
    chosen = ExecutorSettings(**settings or {})
    parameters = request_of(Job(**job), chosen).sbatch(chosen, "snakemake:b")
    return {**parameters.pop("slurm_additional_parameters"), **parameters}


def script(folder: Path, settings: dict[str, Any] | None = None, **job: Any) -> list[str]:
    """Return the #SBATCH lines that submitit writes."""
    chosen = ExecutorSettings(**settings or {})
    parameters = request_of(Job(**job), chosen).sbatch(chosen, "snakemake:b")
    plain = {name.removeprefix("slurm_"): value for name, value in parameters.items()}
    plain["job_name"] = plain.pop("name")
    plain["time"] = plain.pop("timeout_min")
    plain["ntasks_per_node"] = plain.pop("tasks_per_node")
    plain.pop("array_parallelism")
    assert set(plain) <= SlurmExecutor._valid_parameters()
    text = _make_sbatch_string(command="python", folder=folder, **plain)
    return [line for line in text.splitlines() if line.startswith("#SBATCH ")]


def test_a_job_without_resources_asks_for_little() -> None:
    asked = sbatch()
    assert (asked["name"], asked["timeout_min"], asked["slurm_mem"]) == ("train", 60, "4000MB")
    assert (asked["nodes"], asked["tasks_per_node"], asked["cpus_per_task"]) == (1, 1, 1)
    assert not {"gres", "gpus", "partition", "account", "qos", "constraint"} & set(asked)


def test_what_saving_and_finding_a_job_need_is_always_there() -> None:
    asked = sbatch({"signal_seconds": 90})
    assert asked["requeue"] is True
    assert asked["signal"] == "B:USR2@90"
    assert asked["comment"] == "snakemake:b"
    assert asked["slurm_use_srun"] is False


def test_sbatch_gets_each_option_once(tmp_path: Path) -> None:
    lines = script(
        tmp_path, {"account": "lab", "extra": "--exclusive"}, threads=6, gpu=2, mem_mb=9000,
        runtime=90, slurm_partition="gpu", qos="long", constraint="a100|h100",
    )  # fmt: skip
    for line in (
        "--account=lab", "--exclusive", "--cpus-per-task=6", "--gres=gpu:2", "--mem=9000MB",
        "--time=90", "--partition=gpu", "--qos=long", "--constraint='a100|h100'", "--requeue",
        "--comment=snakemake:b", "--signal=B:USR2@120", "--job-name=train", "--nodes=1",
    ):  # fmt: skip
        assert [given.split(" ", 1)[1] for given in lines].count(line) == 1, (line, lines)
    names = [line.split()[1].partition("=")[0] for line in lines]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("flag", "one_task", "two_nodes"),
    [
        ("gres", "gpu:4", "gpu:2"),
        ("gpus-per-node", "4", "2"),
        ("gpus", "4", "4"),
        ("gpus-per-task", "4", "1"),
    ],
)
def test_gpus_are_asked_for_as_the_site_wants(flag: str, one_task: str, two_nodes: str) -> None:
    flags = {"gres", "gpus-per-node", "gpus", "gpus-per-task"}
    asked = sbatch({"gpu_flag": flag}, gpu=4)
    assert {name: asked[name] for name in flags & set(asked)} == {flag: one_task}
    assert sbatch({"gpu_flag": flag}, gpu=4, nodes=2, tasks=4)[flag] == two_nodes


@pytest.mark.parametrize(
    ("flag", "typed"),
    [("gres", "gpu:a100:2"), ("gpus-per-node", "a100:2"), ("gpus", "a100:2")],
)
def test_gpus_of_a_type(flag: str, typed: str) -> None:
    settings = {"gpu_flag": flag, "gpu_model": "a100"}
    assert sbatch(settings, gpu=2)[flag] == typed
    assert sbatch(settings, gpu=2, gpu_model="h100")[flag] == typed.replace("a100", "h100")
    assert flag not in sbatch(settings, gpu=0)


def test_tasks_are_spread_over_the_nodes() -> None:
    asked = sbatch(nodes=2, tasks=8, threads=3)
    assert (asked["nodes"], asked["tasks_per_node"], asked["cpus_per_task"]) == (2, 4, 3)


def test_a_jobs_resource_wins_over_the_setting() -> None:
    settings = {"partition": "all", "account": "lab", "qos": "normal", "constraint": "ib"}
    asked = sbatch(settings, slurm_partition="gpu", qos="long")
    assert (asked["partition"], asked["qos"]) == ("gpu", "long")
    assert (asked["account"], asked["constraint"]) == ("lab", "ib")


def test_further_options_of_sbatch() -> None:
    settings = {"extra": "--exclusive --mail-type=FAIL"}
    asked = sbatch(settings, slurm_extra="--mail-type=ALL --exclude='node[1-2]'")
    assert asked["exclusive"] is True
    assert asked["mail-type"] == "ALL"
    assert asked["exclude"] == "node[1-2]"


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("--gres=gpu:1", "'--gres'"),
        ("--time=5", "'--time'"),
        ("--signal=USR1@5", "'--signal'"),
        ("-x node1", "'-x'"),
        ("--exclude node1", "'node1'"),
    ],
)
def test_an_option_that_is_not_free_is_named(extra: str, named: str) -> None:
    with pytest.raises(RequestError, match="resource 'slurm_extra'") as refused:
        sbatch(slurm_extra=extra)
    assert named in str(refused.value)
    with pytest.raises(RequestError, match="--submitit-extra"):
        sbatch({"extra": extra})


def test_an_unbalanced_quote() -> None:
    with pytest.raises(RequestError, match="resource 'slurm_extra'"):
        sbatch(slurm_extra="--mail-user='a")


@pytest.mark.parametrize(
    ("resource", "value"),
    [
        ("mem_mb", "8GB"),
        ("mem_mb", 0),
        ("runtime", -1),
        ("runtime", 1.5),
        ("gpu", "two"),
        ("nodes", 0),
        ("tasks", 0),
    ],
)
def test_a_value_that_is_no_count_is_named(resource: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"resource '{resource}' is {value!r}"):
        sbatch(**{resource: value})


def test_tasks_that_no_nodes_can_share() -> None:
    with pytest.raises(RequestError, match="'tasks' is 3, no multiple of the 2 nodes"):
        sbatch(nodes=2, tasks=3)


def test_jobs_that_ask_for_the_same_are_equal() -> None:
    settings = ExecutorSettings()
    same = [request_of(Job(gpu=1, slurm_extra=x), settings) for x in ("--a=1 --b", "--b --a=1")]
    assert same[0] == same[1] and hash(same[0]) == hash(same[1])
    assert request_of(Job(gpu=2), settings) != same[0]


def test_more_memory_changes_nothing_else() -> None:
    before = request_of(Job(mem_mb=4000, gpu=1), ExecutorSettings())
    after = before.with_memory(8000)
    assert after.mem_mb == 8000
    assert after.with_memory(4000) == before


@pytest.mark.parametrize(
    "text",
    ["plain", "it's", 'say "so"', "$HOME `id` $(id)", "a\\b", "two\nlines", "é 'both\" ;&|<>*?"],
)
def test_arguments_reach_the_job_as_they_are(text: str) -> None:
    """Snakemake writes them as Python would, and a shell reads them."""
    command = f"python -m snakemake {'out/a'!r} --config {text!r} {text!r} --nolock"
    words = ["python", "-m", "snakemake", "out/a", "--config", text, text, "--nolock"]
    assert shlex.split(shell_quoted(command)) == words
