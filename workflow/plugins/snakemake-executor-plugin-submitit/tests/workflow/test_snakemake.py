"""A complete workflow on the local and debug backends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser
from snakemake_executor_plugin_submitit import ledger

SNAKEFILE = """
rule all:
    input: "out/good.txt", "out/bad.txt"
    localrule: True

rule make:
    output: "out/{name}.txt"
    log: "logs/{name}.log"
    threads: 2
    resources: gpu=1, mem_mb=100
    shell: "(echo {threads} $CUDA_VISIBLE_DEVICES; test {wildcards.name} != bad || test -e fixed "
           "|| {{ echo 'KeyError: 17'; exit 3; }}; echo run >> {wildcards.name}.runs; "
           "touch {output}) > {log}"
"""


@pytest.fixture(autouse=True)
def project(folder: Path) -> None:
    """Work in a project of two jobs, one of which fails until a file exists."""
    (folder / "Snakefile").write_text(SNAKEFILE)


def snakemake(cluster: str, *targets: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "snakemake", "--executor", "submitit", "--submitit-cluster", cluster,
        "--jobs", "4", "--keep-going", "--submitit-poll-seconds", "1",
        *targets,
    ]  # fmt: skip
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "5"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_next_run_repeats_only_the_failed_job() -> None:
    first = snakemake("local")
    assert first.returncode == 1
    assert "(make name=bad): exception: KeyError: 17; log: logs/bad.log" in first.stderr
    assert Path("out/good.txt").exists() and not Path("out/bad.txt").exists()
    assert Path("logs/good.log").read_text() == "2 5\n"
    (failure,) = ledger.entries()
    assert failure.verdict and failure.verdict["cause"] == "exception"

    Path("fixed").touch()
    second = snakemake("local")
    assert second.returncode == 0, second.stderr
    assert Path("out/bad.txt").exists() and Path("good.runs").read_text() == "run\n"
    assert ledger.entries() == []


def test_the_debug_backend_reports_a_failed_job() -> None:
    done = snakemake("debug", "out/bad.txt")
    assert done.returncode == 1
    assert "(make name=bad): exception: KeyError: 17; log: logs/bad.log" in done.stderr


def test_it_works_with_a_logger_plugin() -> None:
    pytest.importorskip("snakemake_logger_plugin_rich", reason="the plugin 'rich' is absent")
    done = snakemake("debug", "out/good.txt", "--logger", "rich")
    assert done.returncode == 0, done.stderr
    assert "Submitted make name=good" in done.stdout + done.stderr


def test_it_works_with_metadata_in_a_database() -> None:
    if "--persistence-backend" not in get_argument_parser().format_help():
        pytest.skip("this version of Snakemake has no option --persistence-backend")
    done = snakemake("debug", "out/good.txt", "--persistence-backend", "db")
    assert done.returncode == 0, done.stderr
    assert Path("out/good.txt").exists() and Path(".snakemake/metadata.db").exists()
