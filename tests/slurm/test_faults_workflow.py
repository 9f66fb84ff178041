"""Snakemake is killed, gets wrong errors from sbatch, or is started twice."""

import contextlib
from pathlib import Path

import pytest

from tests.slurm.conftest import Case
from tests.slurm.lab import wait_for
from tests.slurm.projects import Plain

pytestmark = pytest.mark.slurm_full
WAIT = {"do": "wait"}
ONCE = 'if [ -e once ]; then exec "$sbatch" "$@"; fi; touch once\n'


@pytest.mark.parametrize("jobs", [1, 3], ids=["one job", "an array"])
def test_jobs_are_adopted_after_a_kill_between_sbatch_and_the_ledger(case: Case, jobs: int) -> None:
    project = Plain(case.folder, **{f"job{index}": WAIT for index in range(jobs)})
    path = case.wrap_sbatch(ONCE + '"$sbatch" "$@" > /dev/null; kill -9 $PPID')
    flow = case.snakemake(PATH=path)
    assert flow.wait() == -9
    assert len(case.lab.jobs("PENDING", "RUNNING", "CONFIGURING")) == jobs
    assert case.snakemake("--unlock").wait() == 0
    again = case.snakemake(PATH=path)
    again.wait_for("Adopted job")
    project.go()
    assert again.wait() == 0, again.output
    assert project.histories == [["start", "end"]] * jobs
    assert case.sampler.submissions == [1] * jobs
    case.has_nothing_to_do()
    case.report("found by its comment, none submitted again")


@pytest.mark.parametrize("jobs", [1, 3], ids=["one job", "an array"])
def test_jobs_are_adopted_after_a_timeout_of_a_successful_sbatch(case: Case, jobs: int) -> None:
    project = Plain(case.folder, **{f"job{index}": WAIT for index in range(jobs)})
    path = case.wrap_sbatch(
        ONCE + '"$sbatch" "$@" > /dev/null; echo "sbatch: error: Batch job submission failed: '
        'Socket timed out on send/recv operation" >&2; exit 1'
    )
    flow = case.snakemake(PATH=path)
    wait_for(lambda: len(project.histories) == jobs, 90, "all to run")
    project.go()
    assert flow.wait() == 0, flow.output
    assert flow.lines("Socket timed out")
    assert project.histories == [["start", "end"]] * jobs
    assert case.sampler.submissions == [1] * jobs
    case.has_nothing_to_do()
    case.report("found by its comment, none submitted again")


def test_a_second_snakemake_in_the_folder_is_refused(case: Case) -> None:
    project = Plain(case.folder, first=WAIT, second=WAIT)
    flow = case.snakemake()
    wait_for(lambda: len(project.histories) == 2, 90, "both to run")
    second = case.snakemake()
    assert second.wait() == 1
    assert second.lines("Directory cannot be locked")
    project.go()
    assert flow.wait() == 0, flow.output
    assert project.histories == [["start", "end"]] * 2
    case.report("the second fails, the first continues")


def test_jobs_are_submitted_once_despite_three_kills(case: Case) -> None:
    names = [f"job{index}" for index in range(6)]
    project = Plain(case.folder, **{name: {**WAIT, "gpu": 1} for name in names})
    for _ in range(3):
        flow = case.snakemake()
        flow.wait_for("Submitted|Adopted job")
        flow.kill()
        assert case.snakemake("--unlock").wait() == 0
    project.go()
    case.finishes()
    assert project.histories == [["start", "end"]] * len(names)
    assert case.sampler.submissions == [1] * len(names)
    case.has_nothing_to_do()
    case.report("killed three times, each job submitted once")


def test_the_next_run_repeats_only_the_cancelled_job(case: Case) -> None:
    project = Plain(case.folder, bad={"do": "wait", "then": "fail"}, slow={"do": "wait"})
    flow = case.snakemake("--submitit-on-interrupt", "leave")
    wait_for(lambda: len(project.histories) == 2, 90, "both to run")
    flow.kill()
    case.lab.run("scancel", case.sampler.job_of("bad"))
    project.change(bad={})
    assert case.snakemake("--unlock").wait() == 0
    again = case.snakemake()
    again.wait_for("Adopted job")
    project.go()
    assert again.wait() == 0, again.output
    assert project.history("slow") == ["start", "end"]
    assert project.history("bad") == ["start", "start", "end"]
    case.report("the cancelled job is submitted again, the running one is adopted")


def test_jobs_that_end_without_snakemake_are_reported_by_the_next_run(case: Case) -> None:
    project = Plain(case.folder, good=WAIT, bad={**WAIT, "then": "fail"})
    flow = case.snakemake()
    case.lab.wait_for_jobs(2)
    flow.kill()
    project.go()
    wait_for(lambda: not case.lab.queue(), 60, "an empty queue")
    assert case.snakemake("--unlock").wait() == 0
    again = case.snakemake()
    assert again.wait() == 1
    (line,) = again.lines(r"job \d+\S* .*name=bad")
    assert "ValueError" in line
    assert project.history("good") == ["start", "end"]
    case.report("the finished one is not repeated, the failed one is reported")


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of processes whose working folder is ``folder``."""
    command_lines = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                command_lines.append((process / "cmdline").read_text().replace("\0", " "))
    return command_lines


def test_ctrl_c_in_local_mode_leaves_no_process(case: Case) -> None:
    project = Plain(case.folder, first=WAIT, second=WAIT)
    flow = case.snakemake("--submitit-cluster", "local")
    wait_for(lambda: len(project.histories) == 2, 90, "both to run")
    flow.interrupt()
    assert flow.wait(60) != 0
    wait_for(lambda: not processes_in(project.folder), 30, "the jobs to end")
    project.go()
    case.finishes("--submitit-cluster", "local")
    case.report("no process is left, and the folder is not locked")
