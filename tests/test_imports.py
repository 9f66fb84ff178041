"""Commands import no package that they do not need, because imports dominate their time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY
from tests.support.tiny import make_project

HEAVY = {"torch", "torchvision", "mmdet", "mmengine", "mmcv"}
STATISTICS = {"scipy.special", "scipy.optimize", "scipy.stats"}
OF_OTHER_COMMANDS = {
    *HEAVY,
    *STATISTICS,
    "numpy",
    "pydantic",
    "yaml",
    "PIL",
    "matplotlib",
    "pandas",
}
"""Packages that the parser does not need."""
REPORT = """
import atexit, sys
atexit.register(lambda: print("MODULES", *sys.modules))
"""
COMMAND_LINE = "from kd.cli.main import main; sys.exit(main(sys.argv[1:]))"
SNAKEMAKE = "from snakemake.cli import main; main(sys.argv[1:])"
STUDY = ["tiny", "--scale", "tiny"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path))


def imported(program: str, *arguments: str) -> set[str]:
    """Run a program that must succeed and return the modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT + program, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {*done.stdout.splitlines()[-1].split()[1:]}


def heavy_modules(program: str, *arguments: str) -> set[str]:
    """Run a program that must succeed and return the packages of networks that it imported."""
    return imported(program, *arguments) & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["plan", *STUDY],
        ["plan", *STUDY, "--budget"],
        ["compose", *STUDY],
        ["check", "shapes-tiny"],
        ["generate", "shapes-tiny"],
        ["train", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_without_a_network_imports_no_torch(arguments: list[str]) -> None:
    assert heavy_modules(COMMAND_LINE, *arguments) == set()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["--version"]], ids=" ".join
)
def test_the_parser_imports_no_package_of_a_command(arguments: list[str]) -> None:
    assert not imported(COMMAND_LINE, *arguments) & OF_OTHER_COMMANDS


def test_a_plan_without_results_imports_no_statistics() -> None:
    unused = {*STATISTICS, "matplotlib", "pandas", "kd.evaluation.metrics"}
    assert not imported(COMMAND_LINE, "plan", *STUDY) & unused


def test_the_test_detects_an_import() -> None:
    modules = imported("import torch, scipy; scipy.special")
    assert {"torch", "scipy.special"} <= modules


def test_planning_a_workflow_imports_no_torch() -> None:
    shutil.copy(REPOSITORY / "Snakefile", "Snakefile")
    shutil.copytree(REPOSITORY / "workflow", "workflow")
    arguments = ["--dry-run", "--quiet", "all", "--config", "study=tiny", "scale=tiny"]
    assert heavy_modules(SNAKEMAKE, *arguments) == set()
