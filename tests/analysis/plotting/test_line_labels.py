"""Names beside lines: apart from each other, and at the end where the lines differ."""

from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from analysis.plotting.line_labels import label_lines, least_height, spread_out
from analysis.plotting.style import row_looks


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0.5], [0.5]),
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.52, 0.48], [0.55, 0.45]),
        ([1.0, 1.0, 0.3], [0.9, 1.0, 0.3]),
        ([0.0, 0.0, 0.0], [0.0, 0.1, 0.2]),
        ([0.5, 0.5, 0.58], [0.5267 - 0.1, 0.5267, 0.5267 + 0.1]),
    ],
)
def test_places_are_spread_out(places: list[float], expected: list[float]) -> None:
    assert spread_out(places, 0.1) == pytest.approx(expected, abs=1e-3)


def test_many_places_are_apart_and_in_order() -> None:
    places = [((7 * number) % 20) / 60 for number in range(20)]
    result = spread_out(places, 0.04)
    pairs = sorted(zip(places, result, strict=True))
    assert all(b[1] - a[1] >= 0.04 - 1e-9 for a, b in pairwise(pairs))
    assert min(result) >= 0 and max(result) <= 1


@pytest.mark.parametrize("at_left", [True, False])
def test_names_are_at_the_end_where_lines_are_apart(at_left: bool) -> None:
    names = [f"run {number}" for number in range(4)]
    looks = dict(zip(names, row_looks([("distilled", name) for name in names]), strict=True))
    axes = Figure((5, 3)).subplots()
    lines = {}
    for number, name in enumerate(names):
        ends = [number, 0] if at_left else [0, number]
        (lines[name],) = axes.plot([0.0, 1.0], ends, **looks[name].line)
    axes.set_ylim(0, 4)
    label_lines(axes, lines, looks, 4, least_height(4) * 3)
    assert [text.get_text() for text in axes.texts] == names
    assert {text.get_ha() for text in axes.texts} == {"right" if at_left else "left"}
    assert [text.get_color() for text in axes.texts] == [looks[name].color for name in names]
    heights = [text.xyann[1] for text in axes.texts]
    assert heights == sorted(heights)
