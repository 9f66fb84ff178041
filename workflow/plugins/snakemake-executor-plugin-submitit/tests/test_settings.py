"""Settings as options, as variables and in a profile, and errors in each."""

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

PAGE = Path(__file__).parents[1] / "docs/further.md"
SETTINGS = fields(ExecutorSettings)


def test_every_setting_has_a_help_text_and_a_variable() -> None:
    for setting in SETTINGS:
        assert len(setting.metadata["help"]) > 20 and setting.metadata["help"].endswith(".")
        assert setting.metadata["env_var"] is True
        choices = setting.metadata.get("choices")
        assert choices is None or setting.default in choices


def test_snakemakes_help_lists_every_setting() -> None:
    environment = {**os.environ, "COLUMNS": "1000"}
    command = [sys.executable, "-m", "snakemake", "--help"]
    help_text = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
    for setting in SETTINGS:
        assert f"--submitit-{setting.name.replace('_', '-')} VALUE" in help_text
        assert f"SNAKEMAKE_SUBMITIT_{setting.name.upper()}" in help_text
        assert setting.metadata["help"] in help_text


def test_the_page_lists_each_setting_with_its_default() -> None:
    rows = PAGE.read_text().splitlines()
    for setting in SETTINGS:
        option = f"`{setting.name.replace('_', '-')}`"
        (row,) = (line for line in rows if line.startswith(f"| {option} |"))
        if setting.default != "":
            assert f"| `{setting.default}` |" in row
        else:
            assert "| none |" in row


@pytest.mark.parametrize("source", ["option", "variable", "profile"])
def test_an_unknown_choice_is_a_one_line_error(
    source: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.yaml").write_text("submitit-gpu-flag: gress\n")
    if source == "variable":
        monkeypatch.setenv("SNAKEMAKE_SUBMITIT_GPU_FLAG", "gress")
    more = {"option": ["--submitit-gpu-flag", "gress"], "profile": ["--profile", str(folder)]}
    with pytest.raises(SystemExit):
        parse_args(["--executor", "submitit", "--jobs", "1", *more.get(source, [])])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--submitit-gpu-flag: invalid choice: 'gress'" in error and "'gres'" in error


def install(command: Path) -> None:
    """Install a command that does nothing."""
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)


def refusal(**settings: object) -> str:
    with pytest.raises(RequestError) as refused:
        Submitter(ExecutorSettings(**settings), None)  # type: ignore[arg-type]
    return str(refused.value)


def test_requesting_slurm_on_a_machine_without_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    error = refusal(cluster="slurm")
    assert "no sbatch and no srun" in error and "login node" in error and "'local'" in error


@pytest.mark.parametrize("name", ["array_size", "poll_seconds"])
def test_zero_jobs_or_seconds_are_refused(name: str) -> None:
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
def test_visible_gpus_come_from_cuda_visible_devices(
    visible: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert backends.visible_gpus() == gpus


def test_a_machine_without_gpus_has_no_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "")
    assert backends.visible_gpus() == []
