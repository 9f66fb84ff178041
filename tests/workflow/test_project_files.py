"""`kd init`: a project from a checkout and from an installed wheel."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd.cli.main import main
from kd.common.errors import UserError
from kd.workflow.project_files import FILES, LINKS, write_project
from tests.support.paths import REPOSITORY


def relative_files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files of a project but ``.gitignore``, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in FILES
        for path in [folder / name, *(folder / name).rglob("*")]
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_project_has_the_files_of_the_checkout(tmp_path: Path) -> None:
    count = write_project(tmp_path)
    files = relative_files(tmp_path)
    assert files == relative_files(REPOSITORY)
    assert count == len(files) + 1
    for link in LINKS:
        assert (tmp_path / link).is_dir() and os.readlink(tmp_path / link)
    assert not list(tmp_path.rglob("*.tmp"))


def test_no_file_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text("rule all: ...")
    with pytest.raises(UserError, match="Snakefile"):
        write_project(tmp_path)
    assert main(["init", "."]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "kd init replaces no file" in error
    assert [path.name for path in tmp_path.iterdir()] == ["Snakefile"]

    (tmp_path / "other").mkdir()
    (tmp_path / "other/slurm").symlink_to("nowhere")
    with pytest.raises(UserError, match="slurm"):
        write_project(tmp_path / "other")


def test_the_command_names_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "new"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("next: cd new")
    assert (tmp_path / "new/configs/default.yaml").exists()
    assert main(["init", "my project"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("next: cd 'my project'")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the project's wheel, without its dependencies, in a folder."""
    pytest.importorskip("hatchling", reason="hatchling is not installed; install requirements.lock")
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    target = folder / "site"
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    return target


def run(installed: Path, folder: Path, *command: str) -> str:
    """Run a module of the installed wheel in a folder, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_an_installed_wheel_plans_the_demo_outside_of_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    origin = run(installed, tmp_path, "kd", "init", "project")
    project = tmp_path / "project"
    assert "next: cd project" in origin
    assert relative_files(project) == relative_files(REPOSITORY)
    assert "10 trainings" in run(installed, project, "kd", "plan", "demo", "--scale", "smoke")
    dry = run(installed, project, "snakemake", "-n", "--quiet", "rules")
    assert "train" in dry
