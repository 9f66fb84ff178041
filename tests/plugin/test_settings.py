"""The settings as a user meets them: options, variables, a profile, and mistakes in each."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from snakemake.cli import parse_args
from snakemake_executor_plugin_submitit import backends
from snakemake_executor_plugin_submitit.request import RequestError
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.submission import Submitter

README = Path(backends.__file__).parent / "README.md"
SETTINGS = fields(ExecutorSettings)


def test_every_setting_is_explained_and_a_variable() -> None:
    for setting in SETTINGS:
        assert len(setting.metadata["help"]) > 20 and setting.metadata["help"].endswith(".")
        assert setting.metadata["env_var"] is True
        choices = setting.metadata.get("choices")
        assert choices is None or setting.default in choices


def test_snakemakes_help_lists_them() -> None:
    environment = {**os.environ, "COLUMNS": "1000"}
    command = [sys.executable, "-m", "snakemake", "--help"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
    for setting in SETTINGS:
        assert f"--submitit-{setting.name.replace('_', '-')} VALUE" in shown
        assert f"SNAKEMAKE_SUBMITIT_{setting.name.upper()}" in shown
        assert setting.metadata["help"] in shown


def test_the_readme_lists_each_setting_with_its_default() -> None:
    rows = README.read_text().splitlines()
    for setting in SETTINGS:
        option = f"`{setting.name.replace('_', '-')}`"
        (row,) = (line for line in rows if line.startswith(f"| {option} |"))
        if setting.default != "":
            assert f"| `{setting.default}` |" in row
        else:
            assert "| none |" in row


@pytest.mark.parametrize("way", ["option", "variable", "profile"])
def test_an_unknown_choice_is_one_line(
    way: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.yaml").write_text("submitit-gpu-flag: gress\n")
    if way == "variable":
        monkeypatch.setenv("SNAKEMAKE_SUBMITIT_GPU_FLAG", "gress")
    more = {"option": ["--submitit-gpu-flag", "gress"], "profile": ["--profile", str(folder)]}
    with pytest.raises(SystemExit):
        parse_args(["--executor", "submitit", "--jobs", "1", *more.get(way, [])])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--submitit-gpu-flag: invalid choice: 'gress'" in said and "'gres'" in said


def install(command: Path) -> None:
    """Write a command that does nothing."""
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)


def refusal(**settings: object) -> str:
    with pytest.raises(RequestError) as refused:
        Submitter(ExecutorSettings(**settings), None)  # type: ignore[arg-type]
    return str(refused.value)


def test_slurm_is_asked_for_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said = refusal(cluster="slurm")
    assert "no sbatch and no srun" in said and "login node" in said and "'local'" in said


@pytest.mark.parametrize("name", ["array_size", "poll_seconds"])
def test_numbers_that_would_stand_still_are_refused(name: str) -> None:
    assert f"--submitit-{name.replace('_', '-')}" in refusal(**{name: 0})


def test_without_slurm_jobs_are_processes_of_this_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert backends.choose(ExecutorSettings()).name == "local"
    install(folder / "sbatch")
    assert backends.choose(ExecutorSettings()).name == "local"
    assert "no srun" in refusal(cluster="slurm")
    install(folder / "srun")
    assert backends.choose(ExecutorSettings()).name == "slurm"
    assert backends.choose(ExecutorSettings(cluster="local")).name == "local"
    assert backends.choose(ExecutorSettings(cluster="debug")).name == "debug"


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("0,1", ["0", "1"]), ("3", ["3"]), ("", []), ("-1", []), (" 2, 5 ", ["2", "5"])],
)
def test_the_gpus_that_jobs_of_this_machine_share(
    visible: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert backends.visible_gpus() == gpus


def test_a_machine_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "")
    assert backends.visible_gpus() == []
