"""Jobs that fail for different reasons, and jobs that never start."""

import pytest

from tests.slurm.conftest import Case
from tests.slurm.lab import wait_for
from tests.slurm.projects import Plain

pytestmark = pytest.mark.slurm_full
GREEDY = {"do": "allocate", "mem_mb": 500, "allocate": 1200, "enough": 2000}
NAME = """it's a "$(touch pwned)" `touch pwned` ; touch pwned & $HOME \\ | * ? ~ #%!=:"""
TEXT = f"{NAME}, <x> >pwned <y"


def assert_memory_is_doubled_until_it_suffices(case: Case) -> None:
    Plain(case.folder, greedy=GREEDY, modest={})
    flow = case.finishes()
    lines = flow.lines("out of memory")
    assert [line.rpartition("with ")[2] for line in lines] == ["1000 MB.", "2000 MB."]
    assert case.sampler.submissions == [1, 3]
    case.has_nothing_to_do()
    case.report(
        "killed with 500 and 1000 MB, submitted again with twice the memory, done with 2000 MB"
    )


def test_memory_is_doubled_if_slurm_samples_it(case: Case) -> None:
    assert_memory_is_doubled_until_it_suffices(case)


@pytest.mark.flavor("cgroup")
def test_memory_is_doubled_if_the_kernel_kills_the_job(case: Case) -> None:
    assert_memory_is_doubled_until_it_suffices(case)


def test_a_job_fails_if_memory_runs_out_after_the_last_retry(case: Case) -> None:
    project = Plain(case.folder, greedy=GREEDY, modest={})
    flow = case.snakemake("--submitit-oom-retries", "1")
    cause = case.fails(flow, "greedy", "out of memory.* 1000 MB")
    assert project.finished("modest") and not project.finished("greedy")
    case.report(f"exit 1, '{cause}'")


def test_a_successful_job_without_its_output_fails(case: Case) -> None:
    project = Plain(case.folder, forgetful={"do": "forget"}, good={})
    cause = case.fails(case.snakemake(), "forgetful", "missing output")
    project.change(forgetful={})
    case.finishes()
    assert project.history("good") == ["start", "end"]
    case.report(f"exit 1, '{cause}'; the next run repeated only this job")


def test_a_job_that_sbatch_rejects_fails(case: Case) -> None:
    project = Plain(case.folder, rejected={"slurm_partition": "nowhere"}, good={})
    flow = case.snakemake()
    assert flow.wait() == 1, flow.output
    (line,) = flow.lines(r"message: .*name=rejected\)")
    assert "rejected" in line and "invalid partition specified" in line
    assert project.finished("good")
    project.change(rejected={"slurm_partition": "urgent"})
    case.finishes()
    assert project.history("good") == ["start", "end"]
    case.report(f"exit 1, '{line.partition('): ')[2]}'; others continue")


def test_a_job_that_can_never_start_is_reported(case: Case) -> None:
    project = Plain(case.folder, endless={"slurm_partition": "short", "runtime": 60}, good={})
    flow = case.snakemake("--submitit-on-interrupt", "cancel")
    line = flow.wait_for("name=endless.* is pending", 120)
    assert "PartitionTimeLimit" in line
    assert project.finished("good")
    flow.interrupt()
    assert flow.wait(30) != 0
    wait_for(lambda: not case.lab.queue(), 30, "an empty queue")
    case.report(f"'{line.partition(') ')[2]}'")


def test_quotes_and_metacharacters_reach_the_job_unchanged(case: Case) -> None:
    project = Plain(case.folder, **{NAME: {"text": TEXT}})
    case.finishes()
    assert (project.folder / "out" / f"{NAME}.txt").read_text() == f"{TEXT}\n"
    assert not [*project.folder.rglob("pwned")]
    case.has_nothing_to_do()
    case.report(f"{TEXT} arrives unchanged")


def test_a_failed_job_with_metacharacters_in_its_name_is_reported(case: Case) -> None:
    project = Plain(case.folder, **{NAME: {"text": TEXT, "do": "fail"}})
    flow = case.snakemake()
    assert flow.wait() == 1
    (line,) = flow.lines("message: job")
    assert "ValueError: the number 17 is not even" in line
    assert not [*project.folder.rglob("pwned")]
    case.report("exit 1, the message has the exception")


@pytest.mark.flavor("no-accounting")
def test_causes_are_known_without_accounting(case: Case) -> None:
    project = Plain(
        case.folder, good={}, bad={"do": "fail"}, cancelled={"do": "wait"}, killed={"do": "wait"}
    )
    flow = case.snakemake()
    wait_for(lambda: len(project.histories) == 4, 90, "all to run")
    case.lab.run("scancel", case.sampler.job_of("cancelled"))
    case.lab.kill(case.sampler.job_of("killed"))
    causes = [
        case.fails(flow, name, cause)
        for name, cause in (
            ("bad", "exception: ValueError"),
            ("cancelled", "cancelled"),
            ("killed", "exception: killed without a result file"),
        )
    ]
    assert project.finished("good")
    case.report(f"exit 1, {causes}")
