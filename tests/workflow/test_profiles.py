"""Profiles of snakemake, such as ``--profile slurm``, at the root of a clone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.paths import REPOSITORY
from tests.support.tiny import make_project

LINKS = ("profiles", "slurm", "local")
RESOURCE = re.compile(r"(\w+)=(\d+)(?:,|$)")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of the workflow with the tiny study and its data."""
    clone = make_project(tmp_path_factory.mktemp("clone"))
    shutil.copy(REPOSITORY / "Snakefile", clone)
    for name in ("profiles", "rules", "report"):
        shutil.copytree(REPOSITORY / "workflow" / name, clone / "workflow" / name)
    for name in LINKS:
        os.symlink(os.readlink(REPOSITORY / name), clone / name)
    return clone


def snakemake(clone: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command at the root of the clone."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *command.split()],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def jobs(result: subprocess.CompletedProcess[str], rule: str) -> list[dict[str, int]]:
    """Return the requested resources of each job of a rule, as a dry run prints them."""
    assert result.returncode == 0, result.stdout
    blocks = re.findall(rf"^rule {rule}:\n((?: +.*\n)+)", result.stdout, re.M)
    requests = []
    for block in blocks:
        lines = dict(line.strip().partition(": ")[::2] for line in block.splitlines())
        resources = {name: int(value) for name, value in RESOURCE.findall(lines["resources"])}
        requests.append(resources | {"threads": int(lines.get("threads", 1))})
    return requests


def test_the_links_are_tracked() -> None:
    for name in LINKS:
        assert (REPOSITORY / name / ("default" if name == "profiles" else "config.yaml")).exists()
        assert not Path(os.readlink(REPOSITORY / name)).is_absolute()


@pytest.mark.parametrize("gpus", [1, 16])
def test_jobs_request_the_resources_of_the_paper_scale(clone: Path, gpus: int) -> None:
    workers = 30 + len(os.sched_getaffinity(0))  # a job then has more threads than this machine
    result = snakemake(
        clone, f"--profile slurm -n --config scale=paper gpus={gpus} workers={workers}"
    )
    trainings, predictions = jobs(result, "train"), jobs(result, "predict")
    assert len(trainings) == len(predictions) == 10
    for job in trainings:
        assert (job["gpu"], job["tasks"], job["nodes"]) == (gpus, gpus, 1 + gpus // 9)
        assert job["threads"] == 2 + workers
        assert job["mem_mb"] == min(gpus, 8) * (12_000 + workers * 1500)
        assert 60 < job["runtime"] <= 1440
    for job in predictions:
        assert (job["gpu"], job["tasks"], job["nodes"]) == (1, 1, 1)
        assert job["runtime"] < 60


def test_plain_snakemake_asks_for_no_more_threads_than_there_are(clone: Path) -> None:
    result = snakemake(clone, "-n --config scale=paper workers=1000")
    assert {job["threads"] for job in jobs(result, "train")} == {len(os.sched_getaffinity(0))}


@pytest.mark.parametrize("profile", ["", "--profile slurm", "--profile local"])
def test_the_demo_needs_no_gpu(clone: Path, profile: str) -> None:
    trainings = jobs(snakemake(clone, f"{profile} -n"), "train")
    assert len(trainings) == 10
    assert {(job["gpu"], job["tasks"], job["mem_mb"]) for job in trainings} == {(0, 1, 3000)}


def test_a_mistake_in_the_request_is_one_clear_message(clone: Path) -> None:
    result = snakemake(clone, "--profile slurm -n --config scale=paper gpus=3")
    assert result.returncode == 1
    assert "3 GPUs cannot share the batch of 16 images of schedule '1x'" in result.stdout
    assert "Traceback" not in result.stdout


def test_the_environment_wins_over_the_profile(clone: Path) -> None:
    result = snakemake(clone, "--profile slurm -n", SNAKEMAKE_SUBMITIT_CLUSTER="cloud")
    assert result.returncode != 0
    assert "cloud" in result.stdout


def test_what_is_commented_out_in_the_slurm_profile_can_be_switched_on(clone: Path) -> None:
    """Every setting of the profile, with the example that its comment gives."""
    text = (clone / "slurm" / "config.yaml").read_text()
    switched = re.sub(r"^# (?=(?:submitit-[\w-]+|set-resources):)", "", text, flags=re.M)
    switched = re.sub(r"^# {3}(?=module|conda)", "  ", switched, flags=re.M)
    settings = yaml.safe_load(switched)
    assert settings["submitit-setup"] == "module load cuda\nconda activate kd-detection\n"
    assert settings["submitit-extra"] == "--exclude=node7 --mail-type=FAIL"
    (clone / "site.yaml").write_text(switched)
    result = snakemake(clone, "--profile site.yaml -n --config scale=paper")
    assert {job["mem_mb"] for job in jobs(result, "train")} == {64_000}
    assert "slurm_partition=short" in result.stdout


def test_the_local_profile_runs_jobs_and_keeps_light_ones_beside_the_scheduler(clone: Path) -> None:
    command = "--profile local --config study=tiny scale=tiny"
    weights = re.search(r"results/runs/tiny/\S+/alone/\S+/weights.pth", dry(clone, command).stdout)
    assert weights
    metrics = weights[0].replace("weights.pth", "metrics.json")
    result = snakemake(clone, f"{metrics} {command}")
    assert result.returncode == 0, result.stdout
    assert (clone / metrics).is_file()
    assert (clone / "logs/local/train").is_dir()
    assert {"localrule check_data:", "localrule evaluate:"} <= set(result.stdout.splitlines())
    assert "Nothing to be done" in dry(clone, f"{metrics} {command}").stdout


def dry(clone: Path, command: str) -> subprocess.CompletedProcess[str]:
    return snakemake(clone, f"-n {command}")
