"""Published numbers: each is that of a study's cell, or listed with the reason why of none."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kd.config.library import Library
from kd.config.plan import Row, plan
from kd.config.published import COLUMNS, FIGURES, ROW, read_lines
from tests.support.paths import CONFIGS, SHARED

PUBLISHED = CONFIGS / "published"
ABSENT = PUBLISHED / "not_reproduced.csv"
ANSWERED = sorted(set(PUBLISHED.glob("*.csv")) - {ABSENT})
REFERENCE = SHARED / "reference_results.csv"
NO_REFERENCE = (
    "the reference of published results is not beside the repository; put it at "
    "../shared/reference_results.csv"
)
ALL = 294
LIBRARY = Library(CONFIGS)
COCO_FIGURES = FIGURES[:6]
REFERENCE_COLUMNS = (
    *("table_id", "source", "dataset", "split", "schedule", "detector", "teacher", "student"),
    *("method", *COCO_FIGURES),
)
"""What is kept of the reference; its notes are kept in shorter words."""
DETECTORS = {
    "RetinaNet": "retinanet", "FCOS": "fcos", "ATSS": "atss", "GFL": "gfl", "SSD300": "ssd300",
    "SSD512": "ssd512", "Faster R-CNN": "faster_rcnn", "Faster R-CNN FPN": "faster_rcnn",
}  # fmt: skip
STUDENTS = {
    "": "", "ResNet18": "r18", "ResNet50": "r50", "ResNet101": "r101", "MobileNetV2": "mbv2",
    "MobileNetV2-half": "mbv2-w0.5", "QR50 (quarter-width ResNet50)": "r50-w0.25",
    "VGG16": "vgg16",
}  # fmt: skip


def lines(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    return [line for _, line in read_lines(path, columns)]


def figures(line: dict[str, str]) -> tuple[tuple[str, float], ...]:
    return tuple((name, float(line[name])) for name in FIGURES if line.get(name))


def answered() -> list[dict[str, str]]:
    return [line for path in ANSWERED for line in lines(path, COLUMNS)]


def absent() -> list[dict[str, str]]:
    return lines(ABSENT, (*REFERENCE_COLUMNS, "metric_note", "reason"))


def test_answered_and_not_reproduced_are_all_there_are() -> None:
    assert len(answered()) + len(absent()) == ALL


def cells(file: str) -> set[tuple[Any, ...]]:
    """Rows of the studies that read a file, as the file's lines name them, with their numbers."""
    found = set()
    for name in LIBRARY.names("studies"):
        if LIBRARY.study(name, "tests").published == file:
            made = plan(name, "paper", LIBRARY)
            found |= {_cell(row, made.study.tables[row.table].published or "") for row in made.rows}
    return found


def _cell(row: Row, table: str) -> tuple[Any, ...]:
    swept = row.setting.removeprefix(row.schedule).removeprefix(", ")
    names = (table, row.schedule, row.detector, row.teacher, row.student, row.method, swept)
    return *names, tuple((name, row.published[name]) for name in FIGURES if name in row.published)


@pytest.mark.parametrize("path", ANSWERED, ids=lambda path: path.stem)
def test_every_line_is_answered_by_a_cell(path: Path) -> None:
    found = cells(path.name)
    unanswered = [
        line
        for line in lines(path, COLUMNS)
        if (*(line[column] for column in ROW), figures(line)) not in found
    ]
    assert unanswered == []


@pytest.mark.parametrize("path", ANSWERED, ids=lambda path: path.stem)
def test_every_line_has_numbers_a_source_and_a_framework(path: Path) -> None:
    for line in lines(path, COLUMNS):
        assert figures(line)
        assert line["source"] and line["framework"]
        headline = LIBRARY.dataset(line["dataset"], "tests").metric
        assert bool(line["VOC07"]) == (headline == "voc")


def test_numbers_of_another_framework_are_marked() -> None:
    for line in answered():
        if not line["framework"].startswith("mmdetection"):
            assert line["differs"], line


OPEN = {"rm", "rm_class", "rm_loc", "pfi", "soft_labels", "fitnets", "tadf", "dicod"}
"""Methods whose paper leaves a form, a unit or a weight open (docs/methods/README.md)."""


def test_rows_of_an_open_form_are_marked() -> None:
    """Tables give no verdict on them. DICOD's is open on other detectors than SSD300."""
    for line in answered():
        terms = {*line["method"].split("+")} & OPEN
        settled = terms == {"dicod"} and line["detector"] == "ssd300"
        if terms and not settled:
            assert line["differs"], line


def test_every_line_that_is_not_reproduced_has_a_reason() -> None:
    for line in absent():
        assert len(line["reason"].split()) > 2, line


def _kept(line: dict[str, str]) -> tuple[str, ...]:
    return tuple(line[column] for column in REFERENCE_COLUMNS)


def _told(line: dict[str, str]) -> tuple[Any, ...]:
    """Return what a line of ours must have in common with one of the reference."""
    student = line["student"].replace("vgg16-fc7", "vgg16")
    return line["source"], line["table"], line["detector"], student, figures(line)


def _told_there(line: dict[str, str]) -> tuple[Any, ...]:
    student = STUDENTS.get(line["student"], line["student"])
    numbers = dict(line)
    if line["dataset"].startswith("PASCAL VOC"):
        numbers |= {"VOC07": line["AP50"], "AP50": ""}
    detector = DETECTORS.get(line["detector"], line["detector"])
    return line["source"], line["table_id"], detector, student, figures(numbers)


@pytest.mark.skipif(not REFERENCE.exists(), reason=NO_REFERENCE)
def test_every_line_of_the_reference_is_there_once_with_its_numbers() -> None:
    reference = Counter(_kept(line) for line in lines(REFERENCE, REFERENCE_COLUMNS))
    assert reference.total() == ALL
    listed = Counter(map(_kept, absent()))
    assert listed <= reference
    rest = reference - listed
    assert Counter(map(_told, answered())) == Counter(
        _told_there(dict(zip(REFERENCE_COLUMNS, line, strict=True))) for line in rest.elements()
    )
