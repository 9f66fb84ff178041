"""What a study takes on so many GPUs, worked out by hand for a teacher and three students."""

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
"""Of the teacher, the baseline, and each distilled student, which wait for the teacher."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a tiny project without data, whose trainings take a GPU each."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    edit("configs/scales/tiny.yaml", jobs={"gpus": 1, "threads": 1, "workers": 0})


@pytest.fixture
def budget(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Return what prints a budget."""

    def lines(*arguments: str, study: str = "tiny") -> list[str]:
        assert main(["plan", study, "--scale", "tiny", "--budget", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return lines


def runs(study: str = "tiny") -> list[Run]:
    return [*plan(study, "tiny", Library()).runs.values()]


def hours(run: Run) -> float:
    (found,) = (hours for name, hours in HOURS.items() if name in run.name)
    return found


def end(run: Run, seed: int | None = None, gpus: int = 1, **record: Any) -> None:
    """Leave what a training leaves at its end, of another seed if one is given."""
    directory = run.directory if seed is None else run.directory.parent / f"seed{seed}-00000000"
    took = 3600 * hours(run)
    if run.teacher:
        run.teacher.write()
    write_json(directory / "run.json", run.identity | ({} if seed is None else {"seed": seed}))
    write_json(directory / "config.json", run.config)
    measured = {"seconds": took, "gpu_seconds": gpus * took, "images_per_second": IMAGES / took}
    others = {"peak_memory_mb": 1000, "threads": 1}
    write_json(directory / "provenance.json", measured | others | record)


def measure(gpus: int = 1) -> None:
    """Let every training have been measured, with another seed."""
    for run in runs():
        end(run, seed=1, gpus=gpus)


def has(text: str, lines: list[str]) -> str:
    """Return the one line with a text."""
    (found,) = (line for line in lines if text in line)
    return found


@pytest.mark.parametrize(("gpus", "told"), [(1, "6 h 00 m"), (2, "3 h 30 m"), (4, "3 h 30 m")])
def test_students_wait_for_their_teacher(
    budget: Callable[..., list[str]], gpus: int, told: str
) -> None:
    measure()
    lines = budget("--gpus", str(gpus))
    assert lines[1].split() == ["pair", "4", "0", "0.00", "6.00"]
    assert has("in all", lines).split()[2:] == ["4", "0", "0.00", "6.00"]
    assert has("to come, ", lines).startswith(f"on {gpus} GPU")
    assert f"about {told} to come, {gpus} at once on 1 GPU each" in has("to come, ", lines)
    assert has("rest on", lines) == (
        "6 h 00 m of training to come (4 runs) rest on rates of the same runs with other seeds"
    )


def test_without_a_number_the_time_is_told_for_several(budget: Callable[..., list[str]]) -> None:
    measure()
    told = [line for line in budget() if line.startswith("on ")]
    assert [line.split(" to come")[0] for line in told] == [
        "on 1 GPU: about 6 h 00 m",
        "on 2 GPUs: about 3 h 30 m",
        "on 4 GPUs: about 3 h 30 m",
        "on 8 GPUs: about 3 h 30 m",
    ]


def test_what_has_ended_is_spent_and_lets_students_begin(budget: Callable[..., list[str]]) -> None:
    measure()
    end(runs()[0], energy_joules=3.6e6)
    lines = budget("--gpus", "2")
    assert has("in all", lines).split()[2:] == ["4", "1", "2.00", "4.00"]
    # The baseline ends after one hour, which makes room for the second distilled student.
    assert "on 2 GPUs: about 2 h 30 m to come" in has("to come, ", lines)
    # One kWh in two GPU hours.
    assert has("energy", lines) == "energy of GPUs: 1.00 kWh spent, about 2.00 kWh to come"


def test_energy_of_some_runs_is_told_as_such(budget: Callable[..., list[str]]) -> None:
    measure()
    teacher, baseline, *_ = runs()
    end(teacher, energy_joules=3.6e6)
    end(baseline, energy_joules=None)
    assert has("energy", budget()) == (
        "energy of GPUs: 1.00 kWh spent (1 more did not measure it), about 1.50 kWh to come"
    )
    end(teacher)
    assert "energy" not in "".join(budget())


def test_of_a_training_that_has_begun_the_rest_is_to_come(
    budget: Callable[..., list[str]],
) -> None:
    measure()
    folder = runs()[0].directory / "checkpoints"
    folder.mkdir(parents=True)
    for step in (3, 5):
        (folder / f"step{step:08d}.pth").touch()
    left = 2 * (1 - 5 * BATCH / IMAGES)
    assert has("in all", budget()).split()[-1] == f"{4 + left:.2f}"


def test_a_study_that_is_done_takes_nothing(budget: Callable[..., list[str]]) -> None:
    for run in runs():
        end(run)
    lines = budget("--gpus", "2")
    assert has("in all", lines).split()[2:] == ["4", "4", "6.00", "0.00"]
    assert "Every training has ended." in lines
    assert not [line for line in lines if "rest on" in line]


def test_without_a_measurement_it_says_so(budget: Callable[..., list[str]]) -> None:
    lines = budget()
    assert "(4 runs) rest on multiply-adds alone" in has("rest on", lines)
    assert has("No measurement", lines) == (
        "No measurement of scale 'tiny' says how fast these go: 5e+12 multiply-adds a second is a "
        "guess, gpu_tflops in configs/default.yaml"
    )


def test_other_runs_of_the_scale_correct_the_guess(budget: Callable[..., list[str]]) -> None:
    end(runs()[0], seed=1)
    lines = budget()
    assert "2 h 00 m of training to come (1 runs) rest on rates of" in "".join(lines)
    assert "(3 runs) rest on multiply-adds, corrected by" in "".join(lines)
    assert "No measurement" not in "".join(lines)


def test_what_nothing_is_known_of_is_counted_apart(budget: Callable[..., list[str]]) -> None:
    edit("configs/detectors/retinanet.yaml", cost=None)
    lines = budget()
    assert has("nothing is known", lines).startswith("4 trainings")
    assert has("in all", lines).split()[-1] == "0.00"


def test_a_run_of_two_tables_is_trained_once(budget: Callable[..., list[str]]) -> None:
    measure()
    study = Library().study("tiny", "test").model_dump(mode="json")
    other = study["tables"]["pair"] | {"title": "Other", "methods": ["rm"]}
    edit("configs/studies/tiny.yaml", tables__other=other)
    lines = budget()
    assert lines[2].split() == ["other", "3", "0", "0.00", "4.50"]
    assert lines[3].split()[2:] == ["4", "0", "0.00", "6.00"]
    assert "once in all" in lines[4]


def test_on_a_cpu_trainings_share_the_threads(
    budget: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit("configs/scales/tiny.yaml", jobs={"threads": 2, "workers": 1})
    for run in runs():
        end(run, seed=1, gpus=0)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(7)))
    lines = budget()
    assert has("on 7", lines) == (
        "on 7 CPU threads: about 3 h 30 m to come, 2 at once on 3 threads each"
    )
    assert "(spent and to come in h)" in lines


@pytest.mark.parametrize(
    ("jobs", "arguments", "told"),
    [
        ({"gpus": 1}, "--gpus 2", "give --budget as well"),
        ({"gpus": 1}, "--budget --gpus 0", "--gpus: must be 1 or more"),
        ({"gpus": 2}, "--budget --gpus 1", "a training of scale 'tiny' takes 2; give at least 2"),
        ({}, "--budget --gpus 1", "trainings of scale 'tiny' take no GPU"),
    ],
)
def test_a_wrong_number_of_gpus_gets_one_line(
    jobs: dict[str, int], arguments: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("configs/scales/tiny.yaml", jobs=jobs)
    assert main(["plan", "tiny", "--scale", "tiny", *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and told in line
