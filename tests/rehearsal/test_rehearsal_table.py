"""Table of rehearsals for the terminal: failures with their logs, warnings once."""

import logging
from pathlib import Path

import pytest

from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from kd.rehearsal.rehearse import WarningLog
from kd.rehearsal.table import to_markdown, to_text
from kd.rehearsal.trainings import RehearsedTraining, distinct_trainings
from kd.resources.rehearsals import Rehearsal, folder_of
from tests.support.tiny import make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def record(*warnings: str) -> Rehearsal:
    """Return the record of a rehearsal with warnings."""
    return Rehearsal(
        run="x", device="CPU", gpus=0, threads=1, workers=0, steps=2, batch=1, planned_batch=16,
        data="coco2017 (stand-in)", random_weights=("ImageNet", "teacher"), first_step=61.0,
        seconds_per_step=2.5, images_per_second=0.4, process_mb=2048, gpu_mb=None,
        checkpoint_mb=90.0, seconds={}, gradient_ratios={"loss_pfi": 0.1}, losses={},
        warnings=warnings,
    )  # fmt: skip


def trainings() -> list[RehearsedTraining]:
    """Return the four distinct trainings of study tiny."""
    runs = plan("tiny", "tiny", Library(), StudyOptions()).runs.values()
    return list(distinct_trainings(runs).values())


def test_the_terminal_shows_failures_with_their_log_and_each_warning_once() -> None:
    first, second, failed, missing = trainings()
    record("slow").write(first.key)
    record("slow").write(second.key)
    write_json(folder_of(failed.key) / "failure.json", {"reason": "training: no memory"})
    (folder_of(failed.key) / "rehearsal.log").touch()
    text = to_text([first, second, failed, missing])
    rows = [line.split() for line in text.split("\n\n")[0].splitlines()]
    assert rows[0] == ["training", "batch", "s/step", "GB", "result"]
    assert rows[1][1:] == ["1", "of", "16", "2.5", "2.0", "passed,", "1", "warning"]
    assert [row[1:] for row in rows[3:]] == [["failed"], ["not", "made"]]
    assert f"training: no memory; log: results/rehearsals/{failed.key}/rehearsal.log" in text
    assert text.count(": slow") == 1
    assert " and 1 more: slow" in text
    assert "2 of 4 rehearsals passed, 1 failed, 1 were not made." in text
    assert "Weights were random (ImageNet and teacher), so" in text
    assert max(len(line) for line in text.split("\n\n")[0].splitlines()) <= 120
    assert "loss_pfi 0.1" in to_markdown([first])


def test_warnings_that_every_resumption_causes_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "warnings.jsonl"
    handler = WarningLog(path)
    for text in (
        "a.py:3: UserWarning: <class 'X'> instance named y has been created, the method "
        "`get_instance` should not accept any other arguments",
        "a.py:4: UserWarning: one image is empty",
    ):
        handler.emit(logging.LogRecord("kd", logging.WARNING, "a.py", 3, text, None, None))
    assert path.read_text() == '{"warning": "UserWarning: one image is empty"}\n'
