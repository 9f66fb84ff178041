"""Jobs that fail, each in its own way, and jobs that never start."""

import pytest

from tests.slurm.conftest import Case
from tests.slurm.lab import wait_for
from tests.slurm.projects import Plain

pytestmark = pytest.mark.slurm_full
GREEDY = {"do": "allocate", "mem_mb": 400, "allocate": 800, "enough": 1600}
NAME = """it's a "$(touch pwned)" `touch pwned` ; touch pwned & $HOME \\ | * ? ~ #%!=:"""
TEXT = f"{NAME}, <x> >pwned <y"


def memory_is_doubled_until_it_is_enough(case: Case) -> None:
    Plain(case.folder, greedy=GREEDY, modest={})
    flow = case.finishes()
    lines = flow.lines("out of memory")
    assert [line.rpartition("with ")[2] for line in lines] == ["800 MB.", "1600 MB."]
    assert case.sampler.submissions == [1, 3]
    case.has_nothing_to_do()
    case.shows("killed with 400 and 800 MB, submitted again with twice as much, done with 1600")


def test_out_of_memory_as_slurm_samples_it(case: Case) -> None:
    memory_is_doubled_until_it_is_enough(case)


@pytest.mark.flavour("cgroup")
def test_out_of_memory_as_the_kernel_sees_it(case: Case) -> None:
    memory_is_doubled_until_it_is_enough(case)


def test_out_of_memory_for_good(case: Case) -> None:
    project = Plain(case.folder, greedy=GREEDY, modest={})
    flow = case.snakemake("--submitit-oom-retries", "1")
    cause = case.fails(flow, "greedy", "out of memory.* 800 MB")
    assert project.finished("modest") and not project.finished("greedy")
    case.shows(f"exit 1, '{cause}'")


def test_a_job_ends_well_without_its_output(case: Case) -> None:
    project = Plain(case.folder, forgetful={"do": "forget"}, good={})
    cause = case.fails(case.snakemake(), "forgetful", "missing output")
    project.change(forgetful={})
    case.finishes()
    assert project.history("good") == ["start", "end"]
    case.shows(f"exit 1, '{cause}'; the next run ran this job alone")


def test_a_job_is_rejected_at_submission(case: Case) -> None:
    project = Plain(case.folder, rejected={"slurm_partition": "nowhere"}, good={})
    flow = case.snakemake()
    assert flow.wait() == 1, flow.output
    (line,) = flow.lines(r"message: .*name=rejected\)")
    assert "rejected" in line and "invalid partition specified" in line
    assert project.finished("good")
    project.change(rejected={"slurm_partition": "urgent"})
    case.finishes()
    assert project.history("good") == ["start", "end"]
    case.shows(f"exit 1, '{line.partition('): ')[2]}'; others go on")


def test_a_job_that_can_never_start(case: Case) -> None:
    project = Plain(case.folder, endless={"slurm_partition": "short", "runtime": 60}, good={})
    flow = case.snakemake("--submitit-on-interrupt", "cancel")
    line = flow.wait_for("name=endless.* is pending", 120)
    assert "PartitionTimeLimit" in line
    assert project.finished("good")
    flow.interrupt()
    assert flow.wait(30) != 0
    wait_for(lambda: not case.lab.queue(), 30, "an empty queue")
    case.shows(f"'{line.partition(') ')[2]}'")


def test_names_and_values_with_quotes_and_metacharacters(case: Case) -> None:
    project = Plain(case.folder, **{NAME: {"text": TEXT}})
    case.finishes()
    assert (project.folder / "out" / f"{NAME}.txt").read_text() == f"{TEXT}\n"
    assert not [*project.folder.rglob("pwned")]
    case.has_nothing_to_do()
    case.shows(f"{TEXT} arrives as it is")


def test_metacharacters_in_the_name_of_a_job_that_fails(case: Case) -> None:
    project = Plain(case.folder, **{NAME: {"text": TEXT, "do": "fail"}})
    flow = case.snakemake()
    assert flow.wait() == 1
    (line,) = flow.lines("message: job")
    assert "ValueError: the number 17 is not even" in line
    assert not [*project.folder.rglob("pwned")]
    case.shows("exit 1, the exception is named")


@pytest.mark.flavour("no-accounting")
def test_accounting_is_absent(case: Case) -> None:
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
            ("killed", "exception: killed, and left no result"),
        )
    ]
    assert project.finished("good")
    case.shows(f"exit 1, {causes}")
