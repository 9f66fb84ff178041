"""Reports of checks are read back, and any other file content is one clear error."""

import json
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.common.files import write_json
from kd.data.check import check
from kd.data.check_report import read_report
from kd.data.entry import Dataset

NOT_REPORTS: list[Any] = [
    *({}, [], None, 3, "report", {"splits": []}, {"splits": {"train": {}, "test": {}}}),
    {"splits": {"train": {"images": 1, "boxes": 2}}, "fingerprint": "", "dirt": []},
    {"splits": {"train": {"images": 1}, "test": {}}, "fingerprint": "", "dirt": []},
]


def test_a_report_is_read_back(coco: Dataset, tmp_path: Path) -> None:
    report = check("coco", coco.model_copy(update={"classes": ["dog"]}))
    write_json(tmp_path / "coco.json", report.to_json())
    read = read_report(tmp_path / "coco.json")
    assert read.splits["train"] == (3, 3, 3) and read.splits["test"].boxes == 2
    assert (read.fingerprint, read.left_out) == (report.fingerprint, 3 + 2)


@pytest.mark.parametrize("content", [*map(json.dumps, NOT_REPORTS), "", "{"])
def test_a_file_that_is_not_a_report_is_one_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"mine\.json: not ") as caught:
        read_report(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{}", "[]", '{"splits": 3}', "x"])
def test_every_reader_of_a_report_handles_other_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    from analysis.report.overview import split_sizes
    from kd.cli.main import main
    from tests.support.tiny import make_project

    monkeypatch.chdir(make_project(tmp_path))
    path = Path("results/checks/shapes-tiny.json")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert main(["plan", "tiny", "--scale", "tiny"]) == 2
    assert split_sizes("shapes-tiny") == []
