"""The size of a run's detector is recorded, printed, and refused if its record is damaged."""

import json
import os
from pathlib import Path

import pytest

import kd.runtime  # noqa: F401
from kd.cli.main import main
from kd.common.errors import UserError
from kd.records.model_size import ModelSize, read_size, write_size
from tests.support.tiny import DISTILLED, STUDENT, make_project, write_run


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def test_a_distilled_run_has_the_size_of_its_student() -> None:
    student, distilled = write_run(STUDENT), write_run(DISTILLED)
    assert write_size(distilled) == write_size(student) == read_size(distilled)


def test_the_command_writes_and_prints_the_size(capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(STUDENT)
    assert read_size(run) is None
    assert main(["size", os.fspath(run)]) == 0
    size = read_size(run)
    assert size is not None and (size.width, size.height) == (64, 64)
    assert json.loads((run / "model.json").read_text()) == size._asdict()
    line = capsys.readouterr().out
    assert line.startswith(f"{run / 'model.json'}: ")
    assert f"{size.parameters / 1e6:.2f} M parameters" in line
    assert "GFLOPs for an image of 64 x 64" in line


@pytest.mark.parametrize("content", [[], {}, dict.fromkeys(ModelSize._fields, "many")])
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, content: object) -> None:
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"model\.json: not the size of a detector; run `kd size"):
        read_size(tmp_path)
