"""Commands that build no network import no torch, because its import dominates their time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY
from tests.support.tiny import make_project

HEAVY = ("torch", "torchvision", "mmdet", "mmengine", "mmcv")
REPORT = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", *(name for name in {HEAVY} if name in sys.modules)))
"""
COMMAND_LINE = "from kd.cli.main import main; sys.exit(main(sys.argv[1:]))"
SNAKEMAKE = "from snakemake.cli import main; main(sys.argv[1:])"
STUDY = ["tiny", "--scale", "tiny"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path))


def heavy_modules(program: str, *arguments: str) -> set[str]:
    """Run a program that must succeed and return the heavy modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT + program, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {*done.stdout.splitlines()[-1].split()[1:]}


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


def test_the_test_detects_an_import() -> None:
    assert "torch" in heavy_modules("import torch")


def test_planning_a_workflow_imports_no_torch() -> None:
    shutil.copy(REPOSITORY / "Snakefile", "Snakefile")
    shutil.copytree(REPOSITORY / "workflow", "workflow")
    arguments = ["--dry-run", "--quiet", "all", "--config", "study=tiny", "scale=tiny"]
    assert heavy_modules(SNAKEMAKE, *arguments) == set()
