"""Partitions chosen by the resources of a job."""

from pathlib import Path
from typing import Any

import pytest
from fake_cluster import Job
from snakemake_executor_plugin_submitit.partitions import (
    PartitionError,
    choose,
    read_partitions,
)
from snakemake_executor_plugin_submitit.request import RequestError, request_of
from snakemake_executor_plugin_submitit.settings import ExecutorSettings

LIMITS = """
partitions:
  gpu: {max_runtime: 2880, max_mem_mb: 500000, max_gpu: 8, available_gpu_models: [a100, h100]}
  cpu: {max_runtime: 1440, max_mem_mb: 256000, max_cpus_per_task: 64, max_gpu: 0}
  short: {max_runtime: 60, max_mem_mb: 256000, max_gpu: 0, available_constraints: [ib]}
"""


@pytest.fixture
def settings(folder: Path) -> ExecutorSettings:
    (folder / "partitions.yaml").write_text(LIMITS)
    return ExecutorSettings(partitions=str(folder / "partitions.yaml"))


def partition(settings: ExecutorSettings, **job: Any) -> str:
    request = request_of(Job(**job), settings)
    parameters = request.sbatch(settings, "c")
    return str(parameters["slurm_additional_parameters"].get("partition"))


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"runtime": 30}, "short"),
        ({"runtime": 90}, "cpu"),
        ({"runtime": 2000}, "gpu"),  # it fits into no other, so it takes a node with GPUs
        ({"runtime": 30, "gpu": 1}, "gpu"),
        ({"runtime": 30, "gpu": 8, "nodes": 1, "gpu_model": "h100"}, "gpu"),
        ({"runtime": 30, "gpu": 16, "nodes": 2, "tasks": 2}, "gpu"),  # 8 GPUs of each node
        ({"runtime": 30, "slurm_partition": "cpu"}, "cpu"),
    ],
)
def test_a_job_goes_to_the_partition_that_it_fills_most(
    settings: ExecutorSettings, job: dict[str, Any], expected: str
) -> None:
    assert partition(settings, **job) == expected


def test_the_setting_partition_comes_before_the_limits(settings: ExecutorSettings) -> None:
    settings.partition = "mine"
    assert partition(settings, runtime=30) == "mine"


def test_without_limits_no_partition_is_named() -> None:
    assert partition(ExecutorSettings(), runtime=30) == "None"


def test_more_memory_may_need_another_partition(settings: ExecutorSettings) -> None:
    request = request_of(Job(runtime=30, mem_mb=200_000), settings)
    assert request.partition(settings) == {"partition": "short"}
    assert request.with_memory(400_000).partition(settings) == {"partition": "gpu"}


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ({"runtime": 3000}, "gpu: runtime 3000 exceeds 2880; cpu: runtime 3000 exceeds 1440"),
        ({"gpu": 1, "gpu_model": "v100"}, "gpu: no gpu_model 'v100'; cpu: gpu 1 exceeds 0"),
        ({"gpu": 9}, "gpu: gpu 9 exceeds 8"),
    ],
)
def test_a_job_that_fits_nowhere_is_refused_with_all_reasons(
    settings: ExecutorSettings, job: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RequestError, match="the job fits into no partition") as refused:
        request_of(Job(**job), settings)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write a key 'partitions'"),
        ("partitions: [gpu]", "write a key 'partitions'"),
        ("partitions: {gpu: 3}", "gpu: write its limits as 'key: value'"),
        ("partitions: {gpu: {max_gpus: 8}}", "gpu: no limit 'max_gpus'; valid: max_runtime"),
        ("partitions: {gpu: {max_gpu: many}}", "max_gpu is 'many': set a number of at least 0"),
        ("partitions: {gpu: {max_gpu: -1}}", "max_gpu is -1: set a number of at least 0"),
        ("partitions: {gpu: {available_gpu_models: a100}}", "is 'a100': set a list"),
        ("partitions: {gpu: [", "while parsing"),
        ("partitions: {gpu: {max_gpu: .nan}}", "max_gpu is nan: set a number of at least 0"),
        (f"partitions: {{gpu: {{max_gpu: 1{'0' * 400}}}}}", "set a number of at least 0"),
        ("partitions: {gpu: 0}", "gpu: write its limits as 'key: value'"),
        ('partitions: {"a\\nb": }', "write the name of a partition, without spaces"),
        ("partitions: {null: }", "write the name of a partition, without spaces"),
        (f"partitions: {'[' * 3000}", "is nested too deeply"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line(folder: Path, text: str, reason: str) -> None:
    path = folder / "limits.yaml"
    path.write_text(text)
    with pytest.raises(PartitionError) as refused:
        read_partitions(path)
    message = str(refused.value)
    assert message.startswith(str(path)) and reason in message and "\n" not in message


def test_an_absent_file_is_refused(folder: Path) -> None:
    with pytest.raises(PartitionError, match=r"absent.yaml: .*No such file"):
        read_partitions(folder / "absent.yaml")


def test_a_partition_without_limits_takes_what_no_other_does(folder: Path) -> None:
    path = folder / "limits.yaml"
    path.write_text("partitions: {any: , small: {max_runtime: 10}}")
    limits = read_partitions(path)
    job = dict.fromkeys(("minutes", "mem_mb", "gpus"), 1)
    assert choose(limits, job) == "small"
    assert choose(limits, {**job, "minutes": 11}) == "any"
