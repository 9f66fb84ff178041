"""The additive model of a table cell and Dunnett's intervals, against R and a published table."""

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import dunnett, pooled
from analysis.statistics.pooled import CellDesign, Family, fit, pooled_gains

POINTS = {
    "baseline": {0: 29.1586, 1: 29.4237, 2: 28.6102, 3: 29.3310},
    "rm": {0: 29.9, 1: 29.61, 2: 29.42, 3: 29.73},
    "pfi": {0: 29.2, 1: 29.5, 3: 29.1},
    "fgfi": {1: 30.3, 2: 30.1, 3: 30.9},
    "dicod": {0: 28.4, 2: 28.3},
    "kd": {0: 31.2, 1: 30.8, 2: 30.6, 3: 31.9},
}
BASELINE = POINTS["baseline"]
METHODS = {name: points for name, points in POINTS.items() if name != "baseline"}
SQUARE_ROOT = np.sqrt(0.5)


def family(methods=METHODS, **planned):
    return Family(BASELINE, {**{name: [*points] for name, points in methods.items()}, **planned})


def test_gains_and_errors_are_those_of_r():
    """R 4.2.2: lm(y ~ row + seed); statsmodels 0.15.0 gives the same."""
    model = fit(BASELINE, METHODS)
    assert model.design.methods == ("rm", "pfi", "fgfi", "dicod", "kd")
    assert (model.std, model.df) == (pytest.approx(0.2893490615, abs=1e-9), 11)
    gains = [0.534125, 0.01250274725, 1.32167417582, -0.62476538462, 1.994125]
    assert model.gains == pytest.approx(gains, abs=1e-9)
    errors = [0.2046006835, 0.2244364774, 0.2244364774, 0.2600429304, 0.2046006835]
    assert model.standard_errors == pytest.approx(errors, abs=1e-9)
    assert model.residuals[[0, 4]] == pytest.approx([-0.02992252747, 0.17735247253], abs=1e-9)
    assert model.design.correlation[0, 3] == pytest.approx(0.3933978962, abs=1e-9)
    assert model.design.correlation[1, 2] == pytest.approx(0.4063926941, abs=1e-9)


def test_simultaneous_intervals_are_those_of_multcomp():
    """R packages multcomp 1.4.22 and mvtnorm 1.1.3: glht(model, mcp(row = "Dunnett"))."""
    gains = pooled_gains(fit(BASELINE, METHODS), family())
    expected = {
        "rm": (-0.07403643, 1.14228643, 9.193659650e-02),
        "pfi": (-0.65461921, 0.67962471, 9.999995692e-01),
        "fgfi": (0.65455222, 1.98879614, 4.593352726e-04),
        "dicod": (-1.39772507, 0.14819430, 1.294194155e-01),
        "kd": (1.38596357, 2.60228643, 2.594417188e-06),
    }
    for name, (low, high, p) in expected.items():
        # Missing runs: one factor replaces the exact correlations.
        assert gains[name].over_seeds == pytest.approx((low, high), abs=2e-4)
        # Below 0.001 the quasi-random p of mvtnorm is not accurate.
        assert gains[name].p_adjusted == pytest.approx(p, rel=1e-3, abs=3e-6)
    assert gains["rm"].p == pytest.approx(2.423273366e-02, rel=1e-8)


@pytest.mark.parametrize(
    ("df", "values"),
    [
        (5, (2.57, 3.03, 3.29, 3.48, 3.62, 3.73, 3.82, 3.90, 3.97)),
        (10, (2.23, 2.57, 2.76, 2.89, 2.99, 3.07, 3.14, 3.19, 3.24)),
        (20, (2.09, 2.38, 2.54, 2.65, 2.73, 2.80, 2.86, 2.90, 2.95)),
        (60, (2.00, 2.27, 2.41, 2.51, 2.58, 2.64, 2.69, 2.73, 2.77)),
        (np.inf, (1.96, 2.21, 2.35, 2.44, 2.51, 2.57, 2.61, 2.65, 2.69)),
    ],
)
def test_critical_values_are_those_of_dunnetts_table(df, values):
    """Dunnett, Biometrics 20, 1964, table II: two-sided, joint confidence 95 %, 1 to 9 methods."""
    computed = [dunnett.critical_value(np.full(k + 1, SQUARE_ROOT), df) for k in range(9)]
    assert computed == pytest.approx(values, abs=0.0051)


@pytest.mark.parametrize(
    ("factor", "df", "value"),
    [
        # mvtnorm 1.1.3: qmvt(0.95, tail = "both.tails", abseps = 1e-7).
        (np.full(12, SQUARE_ROOT), 48, 2.878679),
        (np.full(9, SQUARE_ROOT), 2, 7.705132),
        (np.linspace(0.3, 0.8, 12), 20, 3.127794),
    ],
)
def test_critical_values_are_those_of_mvtnorm(factor, df, value):
    critical = dunnett.critical_value(factor, df)
    assert critical == pytest.approx(value, rel=3e-4)
    assert dunnett.p_adjusted(critical, factor, df) == pytest.approx(0.05, abs=1e-9)


def test_small_tails_are_exact():
    normal = 1 - (1 - 2 * stats.norm.sf(2.3)) ** 7
    assert dunnett.tail(2.3, np.zeros(7), np.inf) == pytest.approx(normal, rel=1e-12)
    # By scipy.integrate.quad over the scale and 2001 steps over the shared error.
    five = dunnett.tail(9.74642394129, np.full(5, SQUARE_ROOT), 11)
    assert five == pytest.approx(4.171332063694e-06, rel=1e-8)
    one = 2 * stats.t.sf(40, 3)
    assert dunnett.tail(40, np.zeros(1), 3) == pytest.approx(one, rel=1e-9)


def test_p_of_one_way_data_is_that_of_scipy_and_mvtnorm():
    """Blood counts of Dunnett 1955; the p of mvtnorm 1.1.3 has an error of 1e-15."""
    control = [7.40, 8.50, 7.20, 8.24, 9.84, 8.32]
    drugs = [9.76, 8.80, 7.68, 9.36], [12.80, 9.68, 12.16, 9.20, 10.55]
    expected = stats.dunnett(*drugs, control=control, random_state=0)
    factor = np.array([np.sqrt(len(drug) / (len(drug) + 6)) for drug in drugs])
    p = [dunnett.p_adjusted(t, factor, 12) for t in expected.statistic]
    assert p == pytest.approx(expected.pvalue, abs=3e-4)
    assert p == pytest.approx([0.62010198, 0.005825360848], rel=1e-8)


@pytest.mark.parametrize("lacking", [(0, 1), (2, 3)])
def test_one_factor_replaces_the_correlations_of_missing_runs(lacking):
    """Against scipy's multivariate t, whose error is about 2e-4 here."""
    runs = {str(k): [s for s in range(5) if k % 3 or s not in lacking] for k in range(7)}
    design = CellDesign.of(range(5), runs)
    t = dunnett.critical_value(dunnett.loadings(design.correlation), design.df)
    whole = stats.multivariate_t.cdf(
        np.full(7, t), np.zeros(7), design.correlation, design.df,
        lower_limit=np.full(7, -t), random_state=0, maxpts=40_000,
    )  # fmt: skip
    assert whole == pytest.approx(0.95, abs=1e-3)


def test_complete_runs_have_the_mean_paired_gain():
    model = fit({0: 30.0, 1: 32.0, 2: 31.0}, {"a": {0: 31.0, 1: 33.5, 2: 31.9}})
    gains = np.array([1.0, 1.5, 0.9])
    assert model.gains == pytest.approx([gains.mean()])
    assert model.df == 2
    assert model.standard_errors == pytest.approx([gains.std(ddof=1) / np.sqrt(3)])


def test_planned_rows_count_before_they_have_runs():
    alone = {"kd": METHODS["kd"], "rm": METHODS["rm"]}
    model = fit(BASELINE, alone)
    two = pooled_gains(model, family(alone))["kd"]
    planned = pooled_gains(model, family(alone, later=[0, 1, 2, 3], last=[0, 1, 2, 3]))["kd"]
    critical = [(gain.over_seeds.high - gain.mean) / gain.standard_error for gain in (two, planned)]
    expected = [dunnett.critical_value(np.full(k, SQUARE_ROOT), model.df) for k in (2, 4)]
    assert critical == pytest.approx(expected, abs=1e-6)
    assert planned.p_adjusted > two.p_adjusted and planned.p == two.p


def test_several_cells_share_the_error_of_their_table():
    model = fit(BASELINE, METHODS)
    one, three = (pooled_gains(model, family()._replace(cells=cells))["rm"] for cells in (1, 3))
    assert three.p_adjusted == pytest.approx(1 - (1 - one.p_adjusted) ** 3)
    assert three.over_seeds.low < one.over_seeds.low
    assert one.p_adjusted > 0.05 and one.over_seeds.low < 0


def test_a_method_without_a_chain_of_seeds_to_the_baseline_has_no_gain():
    """Seed 7 connects "b" through "a"; "c" shares no seed with anyone."""
    methods = {"a": {0: 31.0, 1: 31.2, 7: 33.0}, "b": {7: 35.0}, "c": {9: 40.0}}
    model = fit({0: 30.0, 1: 30.4}, methods)
    assert model.design.methods == ("a", "b")
    assert model.gains == pytest.approx([0.9, 2.9])


def test_no_model_without_a_degree_of_freedom_or_a_gain():
    assert fit({0: 30.0}, {"a": {0: 31.0}}) is None
    assert fit({0: 30.0, 1: 31.0}, {"a": {}}) is None
    assert fit({}, {"a": {0: 30.0, 1: 31.0}}) is None
    assert fit({0: 30.0, 1: 31.0}, {}) is None


def test_no_model_of_runs_that_do_not_vary_about_row_and_seed():
    baseline, weight_0 = {0: 30.1, 1: 31.3}, {0: 30.1, 1: 31.3}
    assert fit(baseline, {"a": {0: 32.2, 1: 33.4}, "b": weight_0}) is None
    model = fit(baseline, {"a": {0: 32.2, 1: 33.5}, "b": weight_0})
    gain = pooled_gains(model, Family([0, 1], {"a": [0, 1], "b": [0, 1]}))["b"]
    assert gain.mean == 0 and gain.over_seeds.low < 0 < gain.over_seeds.high


def test_the_order_of_runs_and_a_shift_of_a_seed_change_nothing():
    shifted = {name: {s: y + 5 * s for s, y in points.items()} for name, points in POINTS.items()}
    turned = {name: dict(reversed(points.items())) for name, points in shifted.items()}
    other = fit(turned.pop("baseline"), turned)
    model = fit(BASELINE, METHODS)
    assert other.gains == pytest.approx(model.gains) and other.std == pytest.approx(model.std)
    assert pooled.CONFIDENCE == 0.95
