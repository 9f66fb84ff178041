"""Looks of rows: distinct in every figure of the studies, visible on white, stable by method."""

import itertools
import math
from collections import Counter

import pytest

from analysis.figures.base import looks_of
from analysis.plotting.method_styles import COLORS, PREFERRED, assign, difference
from analysis.plotting.style import BASELINE, MARKERS, TEACHER, look, row_looks
from kd import methods
from kd.config.library import Library
from kd.config.plan import plan
from tests.support.paths import CONFIGS

CLEAR = 12.0
"""Least difference of two colors of a figure, to people with any color vision."""


def figure_rows() -> dict[str, list[tuple[str, str]]]:
    """Return role and method of the rows of each table of the studies, which figures compare."""
    library = Library(CONFIGS)
    rows: dict[str, list[tuple[str, str]]] = {}
    for study in library.names("studies"):
        for row in plan(study, "smoke", library).rows:
            table_rows = rows.setdefault(f"{study} {row.table} {row.detector} {row.student}", [])
            if (row.kind, row.method) not in table_rows:
                table_rows.append((row.kind, row.method))
    return rows


ROWS = figure_rows()


def luminance(color: str) -> float:
    values = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("color", COLORS)
def test_a_color_is_visible_on_white(color: str) -> None:
    """Contrast of 3:1 at least, as WCAG 2.1 (1.4.11) asks of graphics."""
    assert 1.05 / (luminance(color) + 0.05) >= 3


def test_differences_are_those_of_cie76() -> None:
    assert difference("#000000", "#FFFFFF") == pytest.approx(100, abs=0.1)
    assert difference("#123456", "#123456") == 0
    # CIE Lab of #808080 is 53.6, 0, 0, for every color vision.
    assert difference("#000000", "#808080") == pytest.approx(53.6, abs=0.1)
    # Red and green of equal luminance are far apart, but not to everyone.
    assert difference("#CC4444", "#448800") < 30


def test_any_two_colors_differ_clearly() -> None:
    for one, other in itertools.combinations([*COLORS, TEACHER.color, "#808080"], 2):
        assert difference(one, other) >= CLEAR, (one, other)


@pytest.mark.parametrize("rows", ROWS.values(), ids=list(ROWS))
def test_rows_of_a_figure_differ_in_color(rows: list[tuple[str, str]]) -> None:
    rows_looks = row_looks(rows)
    method_looks = [look for look in rows_looks if look not in (TEACHER, BASELINE)]
    colors = {look.color for look in method_looks}
    assert len(colors) == min(len(method_looks), len(COLORS))
    for one, other in itertools.combinations(method_looks, 2):
        assert (one.color, one.marker) != (other.color, other.marker)
        assert one.color != other.color or one.dash != other.dash


def test_a_method_has_its_color_wherever_it_is_free() -> None:
    for rows in ROWS.values():
        rivals = Counter(PREFERRED[method] for _, method in rows if method in PREFERRED)
        for (_, method), row_look in zip(rows, row_looks(rows), strict=True):
            if method in PREFERRED and rivals[PREFERRED[method]] == 1:
                assert row_look.color == look("distilled", method).color
    assert set(methods.names()) <= set(PREFERRED)


def test_a_row_without_its_color_gets_the_most_different_one() -> None:
    rival = next(m for m in ("mine", "yours", "ours", "theirs") if assign([m]) != assign(["rm"]))
    rows_looks = assign([rival, rival, "rm"])
    assert rows_looks[2] == PREFERRED["rm"] and len(set(rows_looks)) == 3
    others = set(range(len(COLORS))) - {rows_looks[0], rows_looks[2]}
    smallest = {
        color: min(difference(COLORS[color], COLORS[c]) for c in (rows_looks[0], rows_looks[2]))
        for color in others
    }
    assert math.isclose(smallest[rows_looks[1]], max(smallest.values()))


def test_rows_beyond_the_number_of_colors_differ_in_marker_and_dash() -> None:
    rows_looks = row_looks([("distilled", f"mine{number}") for number in range(3 * len(COLORS))])
    assert len({(row.color, row.marker) for row in rows_looks}) == len(rows_looks)
    assert len({(row.color, row.dash) for row in rows_looks}) == len(rows_looks)
    assert len(MARKERS) == len(COLORS)


def test_several_students_without_a_method_differ_in_marker_and_dash() -> None:
    first, second, third = row_looks([("baseline", "")] * 3)
    assert first == BASELINE
    assert {first.color, second.color, third.color} == {BASELINE.color}
    assert len({(row.marker, row.dash) for row in (first, second, third)}) == 3
    assert len({row.marker for row in (first, second, third)}) == 3


def test_teacher_and_baseline_have_looks_of_no_method() -> None:
    assert row_looks([("teacher", ""), ("baseline", ""), ("distilled", "rm")]) == [
        TEACHER, BASELINE, look("distilled", "rm"),
    ]  # fmt: skip
    assert looks_of([]) == {}
