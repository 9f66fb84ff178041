"""Orders of methods: published conditions, and tests with the variance of a whole table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from docs.build.evidence import __main__ as evidence
from docs.build.evidence import orderings
from docs.build.evidence.orderings import (
    Condition,
    Ordering,
    compare_orderings,
    contrast,
    is_alike,
    measured_text,
    published_text,
    read_orderings,
)
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.selection import StudyOptions
from tests.support.paths import CONFIGS, REPOSITORY

LIBRARY = Library(CONFIGS)
R18 = Condition("retinanet", "r50", "r18")
ROWS = {
    "baseline": [29.0, 29.4, 28.9, 29.3],
    "a": [31.1, 31.2, 30.7, 31.5],
    "b": [29.9, 30.6, 29.8, 30.2],
    "c": [30.1, 30.2, 30.3, 30.0],
}
"""AP points of four seeds by row."""


def points_of(**rows: list[float]) -> orderings.Points:
    return {name: dict(enumerate(values)) for name, values in rows.items()}


def runs_with_ap(**ap: list[float]) -> pd.DataFrame:
    """Return runs of a table from AP points by method, in the order of the seeds."""
    lines = [
        {"table": "t", "detector": "retinanet", "method": name, "setting": "", "seed": at, "AP": v}
        for name, values in ap.items()
        for at, v in enumerate(values)
    ]
    return pd.DataFrame(lines)


def ordering(better: str, worse: str) -> Ordering:
    return Ordering("tiny", "retinanet", "t", better, worse, 0.5, "a paper", (R18, R18))


# --- Tests of orders ------------------------------------------------------------------------


def test_all_rows_of_a_table_estimate_the_error_of_a_difference() -> None:
    """Two-way analysis of variance by hand: the error of a difference is s * sqrt(2 / 4)."""
    table = np.array([*ROWS.values()])
    residuals = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    df = (len(table) - 1) * (table.shape[1] - 1)
    error = np.sqrt((residuals**2).sum() / df * 2 / table.shape[1])
    difference = contrast(points_of(**ROWS), "a", "b")
    assert difference is not None
    assert difference.mean == pytest.approx(1.0)
    # The moderated variance can only widen the interval and raise p.
    assert difference.p >= 2 * stats.t.sf(1.0 / error, df) * (1 - 1e-9)
    assert difference.high - 1.0 >= stats.t.ppf(0.975, df) * error * (1 - 1e-9)
    assert difference.high - 1.0 == pytest.approx(1.0 - difference.low)


def test_a_difference_has_the_same_p_in_both_directions() -> None:
    forward, backward = (contrast(points_of(**ROWS), *pair) for pair in ("ab", "ba"))
    assert forward is not None and backward is not None
    assert (forward.p, forward.mean) == pytest.approx((backward.p, -backward.mean))


def test_a_row_of_larger_variance_widens_its_differences() -> None:
    calm = ROWS | {"d": [30.0, 30.3, 30.1, 30.1]}
    wild = ROWS | {"d": [27.0, 33.5, 28.5, 31.5]}
    widths = []
    for rows in (calm, wild):
        difference = contrast(points_of(**rows), "a", "d")
        assert difference is not None
        widths.append(difference.high - difference.low)
    assert widths[1] > 3 * widths[0]


@pytest.mark.parametrize("rows", [{"a": [31.0], "b": [30.0]}, {"a": [31.0, 32.0], "b": []}])
def test_without_a_degree_of_freedom_there_is_no_test(rows: dict[str, list[float]]) -> None:
    assert contrast(points_of(**rows), "a", "b") is None


def test_an_order_holds_or_is_reversed_where_its_corrected_p_is_small() -> None:
    both = compare_orderings(runs_with_ap(**ROWS), [ordering("a", "b"), ordering("b", "a")])
    assert list(both["holds"]) == ["yes", "reversed"]
    assert list(both["p_holm"]) == pytest.approx([2 * both["p"][0]] * 2), "Holm, of two"
    assert list(both["mean"]) == pytest.approx([1.0, -1.0])


def test_a_small_difference_is_undetermined() -> None:
    (line,) = compare_orderings(runs_with_ap(**ROWS), [ordering("b", "c")]).itertuples()
    assert (line.seeds, line.holds) == (4, "undetermined")


def test_orders_of_a_detector_are_one_family() -> None:
    runs = runs_with_ap(**ROWS)
    other = ordering("a", "b")._replace(detector="gfl")
    both = compare_orderings(
        pd.concat([runs, runs.assign(detector="gfl")]), [ordering("a", "b"), other]
    )
    assert list(both["p_holm"]) == pytest.approx(list(both["p"]))


def test_an_order_without_runs_is_not_run() -> None:
    (line,) = compare_orderings(runs_with_ap(a=[31, 32]), [ordering("a", "b")]).itertuples()
    assert (line.seeds, line.holds) == (0, "not run")


# --- Published conditions -------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours() -> Plan:
    return plan("ours", evidence.STUDIES["ours"].scale, LIBRARY, StudyOptions())


def published(better: str, worse: str, monkeypatch: pytest.MonkeyPatch) -> Ordering:
    """Return the first order of study ``ours`` between two methods."""
    monkeypatch.chdir(REPOSITORY)
    return next(
        order
        for order in read_orderings(LIBRARY)
        if (order.study, order.better, order.worse) == ("ours", better, worse)
    )


@pytest.mark.parametrize(
    ("better", "worse", "alike", "published_for"),
    [
        ("rm+pfi", "pfi", True, "RetinaNet: ResNet-50 \u2192 ResNet-18"),
        ("gid", "fgfi", False, "RetinaNet: ResNet-101 \u2192 ResNet-50"),
        ("pfi", "fitnets", False, "GFL: ResNet-50 \u2192 ResNet-18"),
        (
            *("fkd", "dicod", False),
            "RetinaNet: not stated (FKD), classifier ResNet-50 (DICOD) \u2192 ResNet-50",
        ),
        ("fgfi", "chen", False, "Faster R-CNN: teacher not stated, ResNet-50"),
    ],
)
def test_an_order_states_the_conditions_that_it_was_published_for(
    better: str,
    worse: str,
    alike: bool,
    published_for: str,
    ours: Plan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = published(better, worse, monkeypatch)
    assert is_alike(order, ours) == alike
    assert published_text(order, ours, LIBRARY) == published_for


def test_the_measured_conditions_are_the_networks_that_ran(
    ours: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = published("rm+pfi", "pfi", monkeypatch)
    text = measured_text(order, ours, LIBRARY)
    assert text == "RetinaNet: ResNet-18 x0.5 \u2192 ResNet-18 x0.25"


def test_every_order_refers_to_published_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for order in read_orderings(LIBRARY):
        assert order.published > 0
        table = LIBRARY.study(order.study, "test").tables[order.table]
        assert order.detector in table.detectors
        assert {order.better, order.worse} <= {*table.methods}


def test_a_number_that_was_not_published_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "orderings.csv"
    line = "ours,retinanet,one_stage,rm,dicod,rm_pfi,T1,retinanet,r18,r50"
    path.write_text(f"{','.join(orderings.COLUMNS)}\n{line}\n")
    monkeypatch.setattr(orderings, "FILE", path)
    with pytest.raises(UserError, match=r"orderings.csv: rm_pfi has no AP of 'dicod'"):
        read_orderings(LIBRARY)
