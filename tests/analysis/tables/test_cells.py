"""Gains that are judged together, in cells of made-up runs."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.tables.markdown import to_markdown
from analysis.tables.rows import RowSpec, build

BASE = (0.300, 0.304, 0.302)
NEAR = (0.3019, 0.3020, 0.3021)
METHODS = {
    "a": (0.310, 0.318, 0.311),
    "b": (0.306, 0.306, 0.309),
    "c": (0.302, 0.303, 0.304),
}


@pytest.fixture
def cell(run):
    """Return a function that makes a baseline and rows of AP by seed; None is not measured."""

    def make(methods, base=BASE, table="T", **more):
        name = f"{table}-base"
        runs = {seed: run(f"{name}{seed}", ap) for seed, ap in enumerate(base)}
        rows = [RowSpec(table, "G", "Student", "baseline", "", "b", runs, **more)]
        for label, aps in methods.items():
            students = {seed: run(f"{table}-{label}{seed}", ap) for seed, ap in enumerate(aps)}
            rows.append(RowSpec(table, "G", label, "distilled", "t", "b", students, runs, **more))
        return rows

    return make


def gains_of(rows):
    return {row.label: row.gain for row in rows if row.gain}


def test_the_model_of_three_methods_and_three_seeds(cell):
    """Residuals, and Dunnett's probability as that of a multivariate t of correlation 1/2."""
    points = 100 * np.array([BASE, *METHODS.values()])
    means = points.mean(axis=1, keepdims=True) + points.mean(axis=0) - points.mean()
    std = np.sqrt(np.sum((points - means) ** 2) / 6)
    rows = build(cell(METHODS))
    facts = rows[1].cell
    assert (facts.residual_std, facts.residual_df) == pytest.approx((std, 6))
    assert (facts.planned_rows, facts.table_rows, facts.table_cells) == (3, 3, 1)
    shape = np.full((3, 3), 0.5) + np.eye(3) / 2
    for gain, row in zip(gains_of(rows).values(), points[1:], strict=True):
        assert gain.mean == pytest.approx(row.mean() - points[0].mean())
        t = gain.mean / (std * np.sqrt(2 / 3))
        distribution = stats.multivariate_t(shape=shape, df=6, seed=0)
        outside = 1 - distribution.cdf([t] * 3, lower_limit=[-t] * 3)
        half = (gain.pooled.high - gain.pooled.low) / 2
        critical = half / (std * np.sqrt(2 / 3))
        assert distribution.cdf([critical] * 3, lower_limit=[-critical] * 3) == pytest.approx(
            0.95, abs=1e-3
        )
        assert gain.p_adjusted >= outside - 1e-3
        assert gain.simultaneous.low <= min(gain.pooled.low, gain.moderated.low)
        assert 0 < gain.probability.interval.low < gain.probability.value < 1


def test_a_selection_is_judged_as_part_of_the_whole_table(cell):
    specs = cell(METHODS)
    whole = gains_of(build(specs))
    (part,) = gains_of(build([specs[0], specs[2]], specs)).values()
    assert part == whole["b"]


def test_no_mark_vanishes_as_rows_arrive(cell):
    """The family is planned: a row that is not measured yet counts as one that is."""
    judgments = {}
    for count in range(1, 4):
        arrived = {
            label: aps if index < count else (None,) * 3
            for index, (label, aps) in enumerate(METHODS.items())
        }
        rows = build(cell(arrived, table=f"T{count}"))
        judgments[count] = {label: gain.judgment for label, gain in gains_of(rows).items()}
        assert rows[1].cell.planned_rows == 3
    assert judgments[3]["a"] == "helps" and judgments[2]["a"] in ("helps", "undetermined")
    alone = gains_of(build(cell({"a": METHODS["a"]}, table="alone")))["a"]
    first = gains_of(build(cell({"a": METHODS["a"], "b": (None,) * 3}, table="first")))["a"]
    assert first.simultaneous.low < alone.simultaneous.low and first.p_adjusted > alone.p_adjusted


def test_two_baselines_of_a_table_are_one_family(cell):
    one = gains_of(build(cell(METHODS)))["a"]
    other = cell(METHODS, base=(0.4, 0.41, 0.42), table="U")
    together = [*cell(METHODS, table="V"), *(replace(spec, table="V") for spec in other)]
    rows = build(together)
    assert rows[1].cell.table_cells == 2 and rows[1].cell.table_rows == 6
    assert gains_of(rows[:4])["a"].p_adjusted > one.p_adjusted


def test_one_seed_is_undetermined(cell):
    rows = build(cell({"a": (0.5,)}, base=(0.3,)))
    gain = rows[1].gain
    assert gain.mean == pytest.approx(20) and gain.judgment == "undetermined"
    assert (gain.simultaneous, gain.p_adjusted, gain.probability) == (None, None, None)
    assert rows[1].cell is None and rows[0].mean_interval is None


def test_equal_values_show_no_variation_and_so_nothing_else(cell):
    rows = build(cell({"a": (0.31,) * 3, "b": (0.3,) * 3}, base=(0.3,) * 3))
    for gain, mean in zip(gains_of(rows).values(), (1, 0), strict=True):
        assert (gain.mean, gain.judgment) == (pytest.approx(mean), "undetermined")
        assert (gain.simultaneous, gain.over_seeds, gain.p, gain.q) == (None,) * 4
    assert {row.cell for row in rows} == {row.mean_interval for row in rows} == {None}
    text = to_markdown(rows)
    assert text.count("| undetermined ") == 2 and "no gain worth" not in text
    assert "- undetermined, without an interval over seeds: all seeds gave the same gain" in text
    assert "without an interval over seeds" not in to_markdown(build(cell(METHODS, table="U")))


def test_statements_on_one_gain_have_its_moderated_error(cell):
    """Row a is steadier than the others: its moderated interval is the narrower one."""
    steady = {"a": (0.310, 0.3141, 0.312), "b": (0.33, 0.30, 0.31), "c": (0.29, 0.32, 0.30)}
    gain = gains_of(build(cell(steady)))["a"]
    error = (gain.moderated.high - gain.moderated.low) / (gain.pooled.high - gain.pooled.low)
    assert error < 0.8
    assert gain.simultaneous.low == pytest.approx(gain.pooled.low)
    t = stats.norm.ppf(gain.probability.value)
    residual_std = build(cell(steady, table="U"))[1].cell.residual_std
    assert t > 1.2 * gain.mean / (residual_std * np.sqrt(2))


def test_a_gain_over_missing_runs_is_that_of_the_model(cell):
    """Seed 2 of b is missing; row effects and the other rows' seed 2 fill it in."""
    rows = build(cell(METHODS | {"b": (*METHODS["b"][:2], None)}))
    points = 100 * np.array([BASE, *METHODS.values()])
    rows_of, seeds_of = np.divmod(np.arange(12), 3)
    measured = np.arange(12) != 8
    model = np.hstack([np.eye(4)[rows_of], np.eye(3)[seeds_of][:, 1:]])[measured]
    fitted = np.linalg.lstsq(model, points.ravel()[measured], rcond=None)[0]
    gain = gains_of(rows)["b"]
    assert gain.mean == pytest.approx(fitted[2] - fitted[0])
    assert gain.std is not None and rows[1].cell.residual_df == 5


def test_the_joint_interval_is_wider_than_both(run):
    base = {seed: run(f"b{seed}", ap, spread=1.0) for seed, ap in enumerate(BASE)}
    students = {seed: run(f"s{seed}", ap, spread=3.0) for seed, ap in enumerate(METHODS["a"])}
    (row,) = build([RowSpec("T", "G", "x", "distilled", "a", "b", students, base)])
    gain = row.gain
    assert "- Seeds and images, 95 % CI: interval of one gain" in to_markdown([row])
    width = gain.joint.high - gain.joint.low
    for other in (gain.over_seeds, gain.over_images):
        assert width > other.high - other.low


def test_a_student_that_is_not_reproduced_is_named_beside_its_gains(cell):
    """The baseline is 30.2, published 32.0; the gain is that published."""
    published = {"published": {"AP": 33.1}, "published_baseline": {"AP": 32.0}, "scale": "paper"}
    alone, distilled = cell({"a": (0.310, 0.314, 0.313)}, **published)
    baseline, row = build([replace(alone, published={"AP": 32.0}), distilled])
    assert baseline.level_verdict == row.level_verdict == "not reproduced"
    assert (row.verdict, row.notes) == (
        "reproduced",
        ("its student alone is not reproduced: 30.2, published 32.0",),
    )
    near = {"published": {"AP": 30.2}, "scale": "paper"}
    baseline, row = build(cell({"a": NEAR}, NEAR, "near", **near))
    assert baseline.level_verdict == row.level_verdict == "reproduced" and not row.notes


def test_a_control_is_a_member_of_the_family(cell):
    alone, method, control = cell({"a": METHODS["a"], "longer": METHODS["b"]})
    rows = build([alone, method, replace(control, kind="control")])
    assert rows[2].gain and rows[2].gain.simultaneous
    assert rows[1].cell.planned_rows == 2
