"""Resources and settings become parameters of submitit's Slurm executor."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import Job
from snakemake_executor_plugin_submitit.request import RequestError, request_of, shell_quoted
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from submitit import SlurmExecutor
from submitit.slurm.slurm import _make_sbatch_string


def sbatch(settings: dict[str, Any] | None = None, **job: Any) -> dict[str, Any]:
    """Return all parameters of a job's submission, including sbatch options."""
    plugin_settings = ExecutorSettings(**settings or {})
    parameters = request_of(Job(**job), plugin_settings).sbatch(plugin_settings, "snakemake:b")
    return {**parameters.pop("slurm_additional_parameters"), **parameters}


def script(folder: Path, settings: dict[str, Any] | None = None, **job: Any) -> list[str]:
    """Return the #SBATCH lines that submitit writes."""
    plugin_settings = ExecutorSettings(**settings or {})
    parameters = request_of(Job(**job), plugin_settings).sbatch(plugin_settings, "snakemake:b")
    plain = {name.removeprefix("slurm_"): value for name, value in parameters.items()}
    plain["job_name"] = plain.pop("name")
    plain["time"] = plain.pop("timeout_min")
    plain["ntasks_per_node"] = plain.pop("tasks_per_node")
    plain.pop("array_parallelism")
    assert set(plain) <= SlurmExecutor._valid_parameters()
    text = _make_sbatch_string(command="python", folder=folder, **plain)
    return [line for line in text.splitlines() if line.startswith("#SBATCH ")]


def test_a_job_without_resources_gets_the_defaults() -> None:
    parameters = sbatch()
    assert (parameters["name"], parameters["timeout_min"], parameters["slurm_mem"]) == (
        "train",
        60,
        "4000MB",
    )
    assert (parameters["nodes"], parameters["tasks_per_node"], parameters["cpus_per_task"]) == (
        1,
        1,
        1,
    )
    assert not {"gres", "gpus", "partition", "account", "qos", "constraint"} & set(parameters)


def test_options_for_requeueing_and_adoption_are_always_set() -> None:
    parameters = sbatch({"signal_seconds": 90})
    assert parameters["requeue"] is True
    assert parameters["signal"] == "B:USR2@90"
    assert parameters["comment"] == "snakemake:b"
    assert parameters["slurm_use_srun"] is False


def test_a_job_has_memory_for_snakemake_itself() -> None:
    assert sbatch(mem_mb=20)["slurm_mem"] == "500MB"
    assert sbatch(mem_mb=501)["slurm_mem"] == "501MB"


def test_a_site_without_requeueing_gets_the_option_that_forbids_it(tmp_path: Path) -> None:
    lines = script(tmp_path, {"requeue": "no"})
    assert "#SBATCH --no-requeue" in lines and "#SBATCH --requeue" not in lines


def test_a_prefix_and_another_cluster_are_passed_on(tmp_path: Path) -> None:
    lines = script(tmp_path, {"job_name_prefix": "kd-", "clusters": "far"})
    assert "#SBATCH --job-name=kd-train" in lines and "#SBATCH --clusters=far" in lines


def test_excluded_nodes_are_added_to_those_of_the_user(tmp_path: Path) -> None:
    settings = ExecutorSettings(extra="--exclude=lab9")
    request = request_of(Job(), settings).without_nodes(["lab2", "lab1", "lab2"])
    options = request.sbatch(settings, "c")["slurm_additional_parameters"]
    assert options["exclude"] == "lab9,lab1,lab2"
    again = request.without_nodes([]).sbatch(settings, "c")["slurm_additional_parameters"]
    assert again["exclude"] == "lab9"


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
        assert [option.split(" ", 1)[1] for option in lines].count(line) == 1, (line, lines)
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
def test_gpus_are_requested_by_the_option_of_the_site(
    flag: str, one_task: str, two_nodes: str
) -> None:
    flags = {"gres", "gpus-per-node", "gpus", "gpus-per-task"}
    parameters = sbatch({"gpu_flag": flag}, gpu=4)
    assert {name: parameters[name] for name in flags & set(parameters)} == {flag: one_task}
    assert sbatch({"gpu_flag": flag}, gpu=4, nodes=2, tasks=4)[flag] == two_nodes


@pytest.mark.parametrize(
    ("flag", "typed"),
    [("gres", "gpu:a100:2"), ("gpus-per-node", "a100:2"), ("gpus", "a100:2")],
)
def test_gpus_of_a_type_are_requested(flag: str, typed: str) -> None:
    settings = {"gpu_flag": flag, "gpu_model": "a100"}
    assert sbatch(settings, gpu=2)[flag] == typed
    assert sbatch(settings, gpu=2, gpu_model="h100")[flag] == typed.replace("a100", "h100")
    assert flag not in sbatch(settings, gpu=0)


def test_tasks_are_divided_among_the_nodes() -> None:
    parameters = sbatch(nodes=2, tasks=8, threads=3)
    assert (parameters["nodes"], parameters["tasks_per_node"], parameters["cpus_per_task"]) == (
        2,
        4,
        3,
    )


def test_a_resource_overrides_the_setting() -> None:
    settings = {"partition": "all", "account": "lab", "qos": "normal", "constraint": "ib"}
    parameters = sbatch(settings, slurm_partition="gpu", qos="long")
    assert (parameters["partition"], parameters["qos"]) == ("gpu", "long")
    assert (parameters["account"], parameters["constraint"]) == ("lab", "ib")


def test_further_options_are_passed_to_sbatch() -> None:
    settings = {"extra": "--exclusive --mail-type=FAIL"}
    parameters = sbatch(settings, slurm_extra="--mail-type=ALL --exclude='node[1-2]'")
    assert parameters["exclusive"] is True
    assert parameters["mail-type"] == "ALL"
    assert parameters["exclude"] == "node[1-2]"


@pytest.mark.parametrize(
    ("extra", "option"),
    [
        ("--gres=gpu:1", "'--gres'"),
        ("--time=5", "'--time'"),
        ("--signal=USR1@5", "'--signal'"),
        ("-x node1", "'-x'"),
        ("--exclude node1", "'node1'"),
    ],
)
def test_a_reserved_or_malformed_option_is_an_error(extra: str, option: str) -> None:
    with pytest.raises(RequestError, match="resource 'slurm_extra'") as refused:
        sbatch(slurm_extra=extra)
    assert option in str(refused.value)
    with pytest.raises(RequestError, match="--submitit-extra"):
        sbatch({"extra": extra})


def test_an_unbalanced_quote_is_an_error() -> None:
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
def test_a_value_that_is_no_count_is_an_error(resource: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"resource '{resource}' is {value!r}"):
        sbatch(**{resource: value})


def test_tasks_that_are_no_multiple_of_the_nodes_are_an_error() -> None:
    with pytest.raises(RequestError, match="'tasks' is 3: set a multiple of the 2 nodes"):
        sbatch(nodes=2, tasks=3)


def test_requests_with_the_same_options_are_equal() -> None:
    settings = ExecutorSettings()
    same = [request_of(Job(gpu=1, slurm_extra=x), settings) for x in ("--a=1 --b", "--b --a=1")]
    assert same[0] == same[1] and hash(same[0]) == hash(same[1])
    assert request_of(Job(gpu=2), settings) != same[0]


def test_with_memory_changes_the_memory_alone() -> None:
    before = request_of(Job(mem_mb=4000, gpu=1), ExecutorSettings())
    after = before.with_memory(8000)
    assert after.mem_mb == 8000
    assert after.with_memory(4000) == before


@pytest.mark.parametrize(
    "text",
    ["plain", "it's", 'say "so"', "$HOME `id` $(id)", "a\\b", "two\nlines", "é 'both\" ;&|<>*?"],
)
def test_arguments_reach_the_job_unchanged(text: str) -> None:
    """Snakemake writes Python literals, and a shell reads them."""
    command = f"python -m snakemake {'out/a'!r} --config {text!r} {text!r} --nolock"
    words = ["python", "-m", "snakemake", "out/a", "--config", text, text, "--nolock"]
    assert shlex.split(shell_quoted(command)) == words
