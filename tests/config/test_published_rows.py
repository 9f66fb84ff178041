"""Published numbers: each is in a row of a study, or listed as absent with a reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kd.config.library import Library
from kd.config.plan import Row, plan
from kd.config.published import (
    COLUMNS,
    METRICS,
    ROW_KEY,
    SOURCE_STUDENT,
    UNKNOWN,
    read_lines,
)
from tests.support.paths import CONFIGS, SHARED

PUBLISHED = CONFIGS / "published"
ABSENT = PUBLISHED / "not_reproduced.csv"
REPRODUCED = sorted(set(PUBLISHED.glob("*.csv")) - {ABSENT})
REFERENCE = SHARED / "reference_results.csv"
NO_REFERENCE = (
    "the reference of published results is not beside the repository; put it at "
    "../shared/reference_results.csv"
)
ALL = 294
"""Lines of the reference."""
LIBRARY = Library(CONFIGS)
COCO_METRICS = METRICS[:6]
REFERENCE_COLUMNS = (
    *("table_id", "source", "dataset", "split", "schedule", "detector", "teacher", "student"),
    *("method", *COCO_METRICS),
)
"""Columns of the reference that ``not_reproduced.csv`` has; its notes are shortened there."""
DETECTORS = {
    "RetinaNet": "retinanet", "FCOS": "fcos", "ATSS": "atss", "GFL": "gfl", "SSD300": "ssd300",
    "SSD512": "ssd512", "Faster R-CNN": "faster_rcnn", "Faster R-CNN FPN": "faster_rcnn",
    "RepPoints": "reppoints_gn",
}  # fmt: skip
STUDENTS = {
    "": "", "ResNet18": "r18", "ResNet50": "r50", "ResNet101": "r101", "MobileNetV2": "mbv2",
    "MobileNetV2-half": "mbv2-w0.5", "QR50 (quarter-width ResNet50)": "r50-w0.25",
    "VGG16": "vgg16",
}  # fmt: skip


def lines(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    return [line for _, line in read_lines(path, columns)]


def metrics_of(line: dict[str, str]) -> tuple[tuple[str, float], ...]:
    return tuple((name, float(line[name])) for name in METRICS if line.get(name))


def reproduced() -> list[dict[str, str]]:
    return [line for path in REPRODUCED for line in lines(path, COLUMNS)]


def absent() -> list[dict[str, str]]:
    return lines(ABSENT, (*REFERENCE_COLUMNS, "metric_note", "reason"))


def test_reproduced_and_absent_lines_are_at_least_those_of_the_reference() -> None:
    assert len(reproduced()) + len(absent()) >= ALL


def cells(file: str) -> set[tuple[Any, ...]]:
    """Return the rows of the studies of a file, with their numbers, as its lines name them."""
    rows = set()
    for name in LIBRARY.names("studies"):
        if LIBRARY.study(name, "tests").published == file:
            planned = plan(name, "paper", LIBRARY)
            rows |= {
                _cell(row, planned.study.tables[row.table].published or "") for row in planned.rows
            }
    return rows


def _cell(row: Row, table: str) -> tuple[Any, ...]:
    swept = row.setting.removeprefix(row.schedule).removeprefix(", ")
    names = (table, row.schedule, row.detector, row.teacher, row.student, row.method, swept)
    return *names, tuple((name, row.published[name]) for name in METRICS if name in row.published)


@pytest.mark.parametrize("path", REPRODUCED, ids=lambda path: path.stem)
def test_every_line_is_a_row_of_a_study(path: Path) -> None:
    rows = cells(path.name)
    missing = [
        line
        for line in lines(path, COLUMNS)
        if (*(line[column] for column in ROW_KEY), metrics_of(line)) not in rows
    ]
    assert missing == []


@pytest.mark.parametrize("path", REPRODUCED, ids=lambda path: path.stem)
def test_every_line_has_numbers_a_source_and_a_framework(path: Path) -> None:
    for line in lines(path, COLUMNS):
        assert metrics_of(line)
        assert line["source"] and line["framework"]
        metric = LIBRARY.dataset(line["dataset"], "tests").metric
        assert bool(line["VOC07"]) == (metric == "voc")


def test_numbers_of_another_framework_are_marked() -> None:
    for line in reproduced():
        if not line["framework"].startswith("mmdetection"):
            assert line["differs"], line


def alone(file: str, detector: str) -> set[str]:
    """Return the AP of ResNet-50 alone on a detector in a paper's file."""
    return {
        line["AP"]
        for line in lines(PUBLISHED / file, COLUMNS)
        if (line["method"], line["detector"], line["student"]) == ("baseline", detector, "r50")
    }


def test_quoted_numbers_have_the_student_of_their_source() -> None:
    quoted = [line for line in reproduced() if line.get(SOURCE_STUDENT)]
    assert all(line["differs"] for line in quoted)
    for line in quoted:
        if line["dataset"] == "voc0712":
            assert line[SOURCE_STUDENT] == UNKNOWN  # no copy of GID's table was found
            continue
        source = "defeat.csv" if "DeFeat" in line["note"] else "gid.csv"
        assert line[SOURCE_STUDENT] in alone(source, line["detector"]), line


@pytest.mark.parametrize(
    ("teacher", "method", "baseline", "in_table"),
    [("r101", "fgfi", 36.2, "+1.7"), ("r101", "gid", 36.2, "+2.2"), ("r152", "fgfi", 36.5, "+2.0")],
)
def test_the_gain_of_a_quoted_row_is_that_at_its_source(
    teacher: str, method: str, baseline: float, in_table: str
) -> None:
    (row,) = quoted_rows("T6", teacher, method)
    assert row.published_baseline == {"AP": baseline}
    assert f"source, {baseline} (over the student of this table: {in_table})" in row.remark
    (others,) = quoted_rows("T6", teacher, "rm+pfi")
    assert others.published_baseline["AP"] == 36.9 and "this table" not in others.remark


def test_a_quoted_row_without_its_source_has_no_gain() -> None:
    (row,) = quoted_rows("T7", "r101", "fgfi")
    assert row.published == {"VOC07": 81.5} and row.published_baseline == {}
    assert "no published gain" in row.remark and "this table: +0.4" in row.remark


def quoted_rows(table: str, teacher: str, method: str) -> list[Row]:
    planned = plan("rm_pfi", "paper", LIBRARY)
    tables = planned.study.tables
    return [
        row
        for row in planned.rows
        if (tables[row.table].published, row.teacher, row.method) == (table, teacher, method)
    ]


OPEN = {"rm", "rm_class", "rm_loc", "pfi", "soft_labels", "fitnets", "tadf", "dicod", "crosskd"}
"""Methods whose paper leaves a form, a unit or a weight open (docs/reference/methods.md)."""


def test_rows_of_an_open_form_are_marked() -> None:
    """Tables print no verdict on them. The form of DICOD is open except on SSD300."""
    for line in reproduced():
        terms = {*line["method"].split("+")} & OPEN
        settled = terms == {"dicod"} and line["detector"] == "ssd300"
        if terms and not settled:
            assert line["differs"], line


def test_every_line_that_is_not_reproduced_has_a_reason() -> None:
    for line in absent():
        assert len(line["reason"].split()) > 2, line


def _reference_cells(line: dict[str, str]) -> tuple[str, ...]:
    return tuple(line[column] for column in REFERENCE_COLUMNS)


def _comparable(line: dict[str, str]) -> tuple[Any, ...]:
    """Return the cells that a line must share with one of the reference."""
    student = line["student"].replace("vgg16-fc7", "vgg16")
    return line["source"], line["table"], line["detector"], student, metrics_of(line)


def _comparable_reference(line: dict[str, str]) -> tuple[Any, ...]:
    student = STUDENTS.get(line["student"], line["student"])
    numbers = dict(line)
    if line["dataset"].startswith("PASCAL VOC"):
        numbers |= {"VOC07": line["AP50"], "AP50": ""}
    detector = DETECTORS.get(line["detector"], line["detector"])
    return line["source"], line["table_id"], detector, student, metrics_of(numbers)


@pytest.mark.skipif(not REFERENCE.exists(), reason=NO_REFERENCE)
def test_every_line_of_the_reference_appears_once_with_its_numbers() -> None:
    reference = Counter(_reference_cells(line) for line in lines(REFERENCE, REFERENCE_COLUMNS))
    assert reference.total() == ALL
    absent_lines = Counter(map(_reference_cells, absent()))
    assert absent_lines <= reference
    rest = reference - absent_lines
    expected = Counter(
        _comparable_reference(dict(zip(REFERENCE_COLUMNS, line, strict=True)))
        for line in rest.elements()
    )
    # Sources that the reference lacks have further lines.
    sources = {source for source, *_ in expected}
    lines_of_sources = [line for line in reproduced() if line["source"] in sources]
    assert Counter(map(_comparable, lines_of_sources)) == expected
