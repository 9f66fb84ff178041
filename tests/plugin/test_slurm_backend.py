"""What is given to sbatch and left for the job, with scripts in the place of Slurm's commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from snakemake_executor_plugin_submitit.backends import SlurmBackend
from snakemake_executor_plugin_submitit.ledger import JobBatch, new_batch
from snakemake_executor_plugin_submitit.payload import Payload
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.slurm import SlurmError
from submitit.core.utils import DelayedSubmission

from tests.plugin.jobs import task

REFUSAL = """sbatch: error: invalid partition specified: nonsuch
sbatch: error: Batch job submission failed: Invalid partition name specified"""


@pytest.fixture
def sbatch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install an sbatch that answers so; return the file with the script it was given last.

    An srun that is never called lies beside it: submitit refuses a machine without one.
    """
    (folder / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    given = folder / "given.sh"
    (folder / "bin/srun").write_text("#!/bin/sh\nexit 1\n")
    (folder / "bin/srun").chmod(0o755)

    def install(answer: str = "Submitted batch job 57", complaint: str = "") -> Path:
        script = f'#!/bin/bash\ncp "${{@: -1}}" {given}\n'
        script += f"echo '{complaint}' >&2; exit 1\n" if complaint else f"echo '{answer}'\n"
        (folder / "bin/sbatch").write_text(script)
        (folder / "bin/sbatch").chmod(0o755)
        return given

    return install


def payload(run: str) -> Payload:
    return Payload(f"echo {run} >> ran", str(Path("stop").absolute()), 10)


def submit(*runs: str) -> JobBatch:
    tasks = [task(run, gpu=1) for run in runs]
    batch = new_batch("slurm", [each.entry for each in tasks])
    folder = Path("logs", batch.name).absolute()
    backend = SlurmBackend(ExecutorSettings(setup="module load cuda"))
    backend.submit(batch, folder, tasks[0].request, [payload(run) for run in runs])
    return batch


def run_job(batch: JobBatch, id: str) -> None:
    DelayedSubmission.load(Path("logs", batch.name, f"{id}_submitted.pkl")).result()


def test_one_job(sbatch: Callable[..., Path]) -> None:
    given = sbatch()
    batch = submit("a")
    (entry,) = batch.jobs
    assert (entry.id, entry.log) == ("57", f"logs/{batch.name}/57_0_log.out")
    run_job(batch, "57")
    assert Path("ran").read_text() == "a\n"
    lines = given.read_text().splitlines()
    assert f"#SBATCH --comment={batch.comment}" in lines and "#SBATCH --gres=gpu:1" in lines
    assert "module load cuda" in lines
    assert [line for line in lines if line.startswith("exec ")], "the signal must reach Python"
    assert not [line for line in lines if line.startswith("srun")]


def test_several_jobs_are_one_array(sbatch: Callable[..., Path]) -> None:
    given = sbatch()
    batch = submit("a", "b", "c")
    assert [entry.id for entry in batch.jobs] == ["57_0", "57_1", "57_2"]
    assert "#SBATCH --array=0-2%3" in given.read_text().splitlines()
    for id in ("57_2", "57_0"):
        run_job(batch, id)
    assert Path("ran").read_text() == "c\na\n"


def test_a_refusal_is_told_in_sbatchs_words(
    sbatch: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    sbatch(complaint=REFUSAL)
    with pytest.raises(SlurmError) as refused:
        submit("a")
    words = [line.removeprefix("sbatch: error: ") for line in REFUSAL.splitlines()]
    assert str(refused.value) == "; ".join(words)
    assert capfd.readouterr().err == ""


def test_an_answer_that_is_none(sbatch: Callable[..., Path]) -> None:
    sbatch(answer="what?")
    with pytest.raises(SlurmError, match=r"what\?"):
        submit("a")


@pytest.mark.parametrize("left", [False, True])
def test_a_job_that_is_taken_over_finds_what_to_run(left: bool, folder: Path) -> None:
    """It waits for a file that whoever submitted it may not have lived to write."""
    (entry,) = new_batch("slurm", [task("a").entry]).jobs
    entry.id, path = "57_1", folder / "57_1_submitted.pkl"
    if left:
        DelayedSubmission(payload("left")).dump(path)
    SlurmBackend(ExecutorSettings()).adopt(entry, folder, payload("given"), 60)
    assert entry.log == "57_1_0_log.out"
    DelayedSubmission.load(path).result()
    assert Path("ran").read_text() == ("left\n" if left else "given\n")
