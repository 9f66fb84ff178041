"""The budget of a study, worked out by hand for a teacher and three students."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.cli.main import main
from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from tests.support.tiny import edit, make_project

IMAGES = 2 * 22
BATCH = 4
HOURS = {"retinanet-r18-w0.1875/alone": 2.0, "retinanet-r18-w0.125/alone": 1.0, "/rm": 1.5}
"""Hours of the teacher, the baseline, and each distilled student, which waits for the teacher."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a tiny project without data, whose trainings take a GPU each."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    edit("configs/scales/tiny.yaml", jobs={"gpus": 1, "threads": 1, "workers": 0})


@pytest.fixture
def budget(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Return a function that returns the lines of a budget."""

    def lines(*arguments: str, study: str = "tiny") -> list[str]:
        assert main(["plan", study, "--scale", "tiny", "--budget", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return lines


def runs(study: str = "tiny") -> list[Run]:
    return [*plan(study, "tiny", Library()).runs.values()]


def hours(run: Run) -> float:
    (run_hours,) = (hours for name, hours in HOURS.items() if name in run.name)
    return run_hours


def end(run: Run, seed: int | None = None, gpus: int = 1, **record: Any) -> None:
    """Write the records of a finished training, of another seed if one is given."""
    directory = run.directory if seed is None else run.directory.parent / f"seed{seed}-00000000"
    seconds = 3600 * hours(run)
    if run.teacher:
        run.teacher.write()
    write_json(directory / "run.json", run.identity | ({} if seed is None else {"seed": seed}))
    write_json(directory / "config.json", run.config)
    usage = {
        "seconds": seconds,
        "gpu_seconds": gpus * seconds,
        "images_per_second": IMAGES / seconds,
    }
    others = {"peak_memory_mb": 1000, "threads": 1}
    write_json(directory / "provenance.json", usage | others | record)


def measure(gpus: int = 1) -> None:
    """Write the records of every training with another seed."""
    for run in runs():
        end(run, seed=1, gpus=gpus)


def line_with(text: str, lines: list[str]) -> str:
    """Return the only line with a text."""
    (line,) = (line for line in lines if text in line)
    return line


@pytest.mark.parametrize(("gpus", "time"), [(1, "6 h 00 m"), (2, "3 h 30 m"), (4, "3 h 30 m")])
def test_students_wait_for_their_teacher(
    budget: Callable[..., list[str]], gpus: int, time: str
) -> None:
    measure()
    lines = budget("--gpus", str(gpus))
    assert lines[1].split() == ["pair", "4", "0", "0.00", "6.00"]
    assert line_with("all tables", lines).split()[2:] == ["4", "0", "0.00", "6.00"]
    assert line_with(" remaining, ", lines).startswith(f"on {gpus} GPU")
    assert f"about {time} remaining, {gpus} at once on 1 GPU each" in line_with(
        " remaining, ", lines
    )
    assert line_with("Estimate for", lines) == (
        "Estimate for 4 trainings: 6 h 00 m, from the throughput of the same runs with other seeds"
    )


def test_without_a_number_of_gpus_several_numbers_are_printed(
    budget: Callable[..., list[str]],
) -> None:
    measure()
    times = [line for line in budget() if line.startswith("on ")]
    assert [line.split(" remaining")[0] for line in times] == [
        "on 1 GPU: about 6 h 00 m",
        "on 2 GPUs: about 3 h 30 m",
        "on 4 GPUs: about 3 h 30 m",
        "on 8 GPUs: about 3 h 30 m",
    ]


def test_a_finished_teacher_is_used_time_and_lets_students_begin(
    budget: Callable[..., list[str]],
) -> None:
    measure()
    end(runs()[0], energy_joules=3.6e6)
    lines = budget("--gpus", "2")
    assert line_with("all tables", lines).split()[2:] == ["4", "1", "2.00", "4.00"]
    # The baseline ends after one hour, which makes room for the second distilled student.
    assert "on 2 GPUs: about 2 h 30 m remaining" in line_with(" remaining, ", lines)
    # One kWh in two GPU hours.
    assert line_with("energy", lines) == "energy of GPUs: 1.00 kWh used, about 2.00 kWh remaining"


def test_energy_that_some_runs_did_not_measure_is_stated(budget: Callable[..., list[str]]) -> None:
    measure()
    teacher, baseline, *_ = runs()
    end(teacher, energy_joules=3.6e6)
    end(baseline, energy_joules=None)
    assert line_with("energy", budget()) == (
        "energy of GPUs: 1.00 kWh used (1 more did not measure it), about 1.50 kWh remaining"
    )
    end(teacher)
    assert "energy" not in "".join(budget())


def test_the_steps_after_the_last_checkpoint_of_a_training_remain(
    budget: Callable[..., list[str]],
) -> None:
    measure()
    folder = runs()[0].directory / "checkpoints"
    folder.mkdir(parents=True)
    for step in (3, 5):
        (folder / f"step{step:08d}.pth").touch()
    left = 2 * (1 - 5 * BATCH / IMAGES)
    assert line_with("all tables", budget()).split()[-1] == f"{4 + left:.2f}"


def test_a_finished_study_has_no_remaining_time(budget: Callable[..., list[str]]) -> None:
    for run in runs():
        end(run)
    lines = budget("--gpus", "2")
    assert line_with("all tables", lines).split()[2:] == ["4", "4", "6.00", "0.00"]
    assert "Every training has ended." in lines
    assert not [line for line in lines if "Estimate for" in line]


def test_an_estimate_without_any_measurement_is_stated(budget: Callable[..., list[str]]) -> None:
    lines = budget()
    assert "Estimate for 4 trainings: " in line_with("Estimate for", lines)
    assert (
        "No training of scale 'tiny' has been measured, so the estimate assumes 5 tera "
        "multiply-adds a second: key 'gpu_tflops' of configs/default.yaml."
    ) in " ".join(map(str.strip, lines))


def test_other_runs_of_the_scale_correct_the_estimate(budget: Callable[..., list[str]]) -> None:
    end(runs()[0], seed=1)
    lines = budget()
    assert "Estimate for 1 training: 2 h 00 m, from the throughput" in "".join(lines)
    assert "from multiply-adds, corrected by" in "".join(lines)
    assert "No training" not in "".join(lines)


def test_trainings_without_an_estimate_are_counted_separately(
    budget: Callable[..., list[str]],
) -> None:
    edit("configs/detectors/retinanet.yaml", flops=None)
    lines = budget()
    assert "leave out 4 trainings" in line_with("without an estimate", lines)
    assert line_with("all tables", lines).split()[-1] == "0.00"


def test_a_run_of_two_tables_is_trained_once(budget: Callable[..., list[str]]) -> None:
    measure()
    study = Library().study("tiny", "test").model_dump(mode="json")
    other = study["tables"]["pair"] | {"title": "Other", "methods": ["rm"]}
    edit("configs/studies/tiny.yaml", tables__other=other)
    lines = budget()
    assert lines[2].split() == ["other", "3", "0", "0.00", "4.50"]
    assert lines[3].split()[2:] == ["4", "0", "0.00", "6.00"]
    assert "once in 'all tables'" in " ".join(map(str.strip, lines[4:6]))


def test_trainings_on_a_cpu_share_its_threads(
    budget: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit("configs/scales/tiny.yaml", jobs={"threads": 2, "workers": 1})
    for run in runs():
        end(run, seed=1, gpus=0)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(7)))
    lines = budget()
    assert line_with("on 7", lines) == (
        "on 7 CPU threads: about 3 h 30 m remaining, 2 at once on 3 threads each"
    )
    assert "(in h; remaining is an estimate)" in lines


@pytest.mark.parametrize(
    ("jobs", "arguments", "message"),
    [
        ({"gpus": 1}, "--gpus 2", "--gpus applies to a budget only; add --budget"),
        ({"gpus": 1}, "--budget --gpus 0", "--gpus: must be 1 or more"),
        ({"gpus": 2}, "--budget --gpus 1", "a training of scale 'tiny' uses 2; give at least 2"),
        ({}, "--budget --gpus 1", "trainings of scale 'tiny' use no GPU"),
    ],
)
def test_a_wrong_number_of_gpus_is_one_clear_error(
    jobs: dict[str, int], arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("configs/scales/tiny.yaml", jobs=jobs)
    assert main(["plan", "tiny", "--scale", "tiny", *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
