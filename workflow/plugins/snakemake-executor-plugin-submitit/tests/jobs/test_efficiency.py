"""Used and requested resources, from the output of ``sacct`` to advice."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cluster import Cluster, task
from snakemake_executor_plugin_submitit import efficiency, slurm
from snakemake_executor_plugin_submitit.efficiency import JobUsage
from snakemake_executor_plugin_submitit.submission import Submitter

SACCT = """57_0|3600|600|04:00:00|8||65536M|cpu=8,gres/gpu=2,mem=64G|
57_0.batch|3600||04:00:00|8|12124160K||cpu=8|cpu=1,gres/gpuutil=80
57_1|1800|600|1-00:00:00|8||65536M|cpu=8,gres/gpu=2,mem=64G|
57_1.batch|1800||01:30.500|8|2G||cpu=8|cpu=1,gres/gpuutil=20
58|30|UNLIMITED|00:01.000|1||4000Mn|billing=1,cpu=1|
a warning of Slurm
"""


@pytest.fixture
def sacct(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a fake ``sacct``, and return the file of its arguments."""
    (folder / "sacct.txt").write_text(SACCT)
    (folder / "bin").mkdir()
    script = folder / "bin/sacct"
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\ncat {folder}/sacct.txt\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    return folder / "calls"


def test_quantities_that_slurm_does_not_know_count_as_zero(sacct: Path) -> None:
    (sacct.parent / "sacct.txt").write_text("58||Partition_Limit|INVALID|1|?|?||\n")
    usages = efficiency.usage_of_jobs(["58"])
    assert usages["58"] == JobUsage(0, float("inf"), 1, 0, 0, 0)


def test_usage_is_read_from_a_job_and_its_steps(sacct: Path) -> None:
    usages = efficiency.usage_of_jobs(["57_0", "57_1", "58", "59"], "far")
    assert usages["57_0"] == JobUsage(3600, 600, 8, 14400, 11840, 65536, 2, 0.8)
    assert usages["57_1"] == JobUsage(1800, 600, 8, 86400, 2048, 65536, 2, 0.2)
    assert usages["58"] == JobUsage(30, float("inf"), 1, 1, 0, 4000)
    assert "59" not in usages
    assert "--clusters=far" in sacct.read_text()


def test_a_rule_sums_its_jobs_and_keeps_the_most_memory() -> None:
    jobs = [
        ("train", JobUsage(3600, 600, 8, 14400, 11840, 64000, 2, 0.8)),
        ("table", JobUsage(30, 60, 1, 25, 900, 1000)),
        ("train", JobUsage(1800, 600, 8, 7200, 2048, 64000, 2, 0.4)),
    ]
    train, table = efficiency.usage_of_rules(jobs)
    assert (train.rule, train.jobs, train.hours, train.longest_minutes) == ("train", 2, 1.5, 60)
    assert train.cpu_share == pytest.approx((14400 + 7200) / (8 * 5400))
    assert (train.memory_mb, train.gpu_hours) == (11840, 3.0)
    assert train.gpu_share == pytest.approx(0.6)
    assert table.gpu_share is None and table.advice() == []


def test_advice_names_the_request_its_use_and_a_value() -> None:
    job = JobUsage(1800, 600, 8, 0.2 * 8 * 1800, 11840, 64000, 1, 0.3)
    (rule,) = efficiency.usage_of_rules([("train", job)])
    assert rule.advice() == [
        "train: mem_mb is 64000, and at most 11840 were used: set 15000",
        "train: 8 threads were requested, and 1.6 were busy on average: set 2",
        "train: runtime is 600 minutes, and the longest job took 30: with 60, jobs may start "
        "earlier",
        "train: its GPUs were busy for 30 % of the time: look for a slow loader, or use fewer GPUs",
    ]


def test_a_fitting_request_and_a_job_without_time_get_no_advice() -> None:
    fitting = JobUsage(3000, 60, 4, 4 * 2700, 7000, 8000, 1, 0.9)
    empty = JobUsage(0, float("inf"), 0, 0, 0, 0)
    for rule in efficiency.usage_of_rules([("train", fitting), ("none", empty)]):
        assert rule.advice() == []


def test_the_report_is_a_table_of_rules(folder: Path) -> None:
    rules = efficiency.usage_of_rules([("train", JobUsage(3600, 600, 8, 14400, 11840, 64000))])
    path = folder / "logs/efficiency.tsv"
    efficiency.write_report(path, rules)
    header, line = (row.split("\t") for row in path.read_text().splitlines())
    assert len(header) == len(line) and header[:3] == ["rule", "jobs", "hours"]
    assert dict(zip(header, line, strict=True))["cpu_used"] == "0.50"
    assert [one.name for one in path.parent.iterdir()] == ["efficiency.tsv"]


def ended(submitter: Submitter, cluster: Cluster) -> None:
    """Submit a job and clear it, as after success."""
    one = task("one")
    submitter.place([one], {})
    cluster.usages[str(one.entry.id)] = JobUsage(600, 60, 1, 540, 500, 4000)
    submitter.clear(one)


def test_a_run_ends_with_the_report(
    new_submitter: Callable[..., Submitter], cluster: Cluster, folder: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(slurm.calls, "sbatch", 1)
    submitter = new_submitter()
    ended(submitter, cluster)
    submitter.report(600)
    assert "train\t1" in (folder / "logs/slurm/efficiency.tsv").read_text()
    assert "mem_mb is 4000, and at most 500 were used: set 1000" in caplog.text


def test_a_cluster_without_accounting_gets_no_report(
    new_submitter: Callable[..., Submitter], cluster: Cluster, folder: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(slurm.calls, "sbatch", 1)
    caplog.set_level(logging.INFO)
    submitter = new_submitter()
    ended(submitter, cluster)
    cluster.silent = "Slurm accounting storage is disabled"
    submitter.report(600)
    assert "No efficiency report: Slurm accounting storage is disabled" in caplog.text
    assert not (folder / "logs/slurm/efficiency.tsv").exists()
