"""The Slurm backend's scripts and files, with fake Slurm commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cluster import task
from snakemake_executor_plugin_submitit.backends import SlurmBackend
from snakemake_executor_plugin_submitit.ledger import JobBatch, new_batch
from snakemake_executor_plugin_submitit.payload import Payload
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.slurm import SlurmError
from submitit.core.utils import DelayedSubmission

REFUSAL = """sbatch: error: invalid partition specified: nonsuch
sbatch: error: Batch job submission failed: Invalid partition name specified"""


@pytest.fixture
def sbatch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that installs a fake sbatch and returns the last submitted script.

    A fake srun is installed as well, because submitit refuses a machine without one.
    """
    (folder / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    submitted = folder / "submitted.sh"
    (folder / "bin/srun").write_text("#!/bin/sh\nexit 1\n")
    (folder / "bin/srun").chmod(0o755)

    def install(answer: str = "Submitted batch job 57", complaint: str = "") -> Path:
        script = f'#!/bin/bash\ncp "${{@: -1}}" {submitted}\n'
        script += f"echo '{complaint}' >&2; exit 1\n" if complaint else f"echo '{answer}'\n"
        (folder / "bin/sbatch").write_text(script)
        (folder / "bin/sbatch").chmod(0o755)
        return submitted

    return install


def payload(run: str) -> Payload:
    return Payload(f"echo {run} >> ran", str(Path("stop").absolute()), 10)


def submit(*runs: str) -> JobBatch:
    tasks = [task(run, gpu=1) for run in runs]
    batch = new_batch("slurm", [task.entry for task in tasks])
    folder = Path("logs", batch.name).absolute()
    backend = SlurmBackend(ExecutorSettings(setup="module load cuda"))
    backend.submit(batch, folder, tasks[0].request, [payload(run) for run in runs])
    return batch


def run_job(batch: JobBatch, id: str) -> None:
    DelayedSubmission.load(Path("logs", batch.name, f"{id}_submitted.pkl")).result()


def test_one_job_is_submitted(sbatch: Callable[..., Path]) -> None:
    script = sbatch()
    batch = submit("a")
    (entry,) = batch.jobs
    assert (entry.id, entry.log) == ("57", f"logs/{batch.name}/57_0_log.out")
    run_job(batch, "57")
    assert Path("ran").read_text() == "a\n"
    lines = script.read_text().splitlines()
    assert f"#SBATCH --comment={batch.comment}" in lines and "#SBATCH --gres=gpu:1" in lines
    assert "module load cuda" in lines
    assert [line for line in lines if line.startswith("exec ")], "the signal must reach Python"
    assert not [line for line in lines if line.startswith("srun")]


def test_several_jobs_are_one_array(sbatch: Callable[..., Path]) -> None:
    script = sbatch()
    batch = submit("a", "b", "c")
    assert [entry.id for entry in batch.jobs] == ["57_0", "57_1", "57_2"]
    assert "#SBATCH --array=0-2%3" in script.read_text().splitlines()
    for id in ("57_2", "57_0"):
        run_job(batch, id)
    assert Path("ran").read_text() == "c\na\n"


def test_a_refusal_has_the_message_of_sbatch(
    sbatch: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    sbatch(complaint=REFUSAL)
    with pytest.raises(SlurmError) as refused:
        submit("a")
    words = [line.removeprefix("sbatch: error: ") for line in REFUSAL.splitlines()]
    assert str(refused.value) == "; ".join(words)
    assert capfd.readouterr().err == ""


def test_an_unexpected_answer_of_sbatch_is_an_error(sbatch: Callable[..., Path]) -> None:
    sbatch(answer="what?")
    with pytest.raises(SlurmError, match=r"what\?"):
        submit("a")


@pytest.mark.parametrize("is_written", [False, True])
def test_an_adopted_job_has_a_payload(is_written: bool, folder: Path) -> None:
    """The process that submitted it may have died before it wrote the payload."""
    (entry,) = new_batch("slurm", [task("a").entry]).jobs
    entry.id, path = "57_1", folder / "57_1_submitted.pkl"
    if is_written:
        DelayedSubmission(payload("first")).dump(path)
    SlurmBackend(ExecutorSettings()).adopt(entry, folder, payload("second"), 60)
    assert entry.log == "57_1_0_log.out"
    DelayedSubmission.load(path).result()
    assert Path("ran").read_text() == ("first\n" if is_written else "second\n")
