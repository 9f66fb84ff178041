"""Ablation plots: the swept settings, the statistics at their values, and the picture."""

import io

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from analysis.figures.ablation.analysis import Ablation
from analysis.figures.ablation.plot import plot
from analysis.plotting.style import look
from kd.common.errors import UserError
from kd.config.library import Library
from tests.analysis.fakes import groups, write_metrics, write_run

BASE = {"weight": 1.0, "temperature": 1.0}


@pytest.fixture
def make(tmp_path):
    """Return a function that writes the runs of a row, a seed for each AP."""

    def rows(*aps, method="rm", student="r18", **settings):
        runs = []
        for seed, ap in enumerate(aps):
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            methods = {method: BASE | settings} if method else None
            runs.append(write_run(folder, methods, seed, student=student))
            write_metrics(runs[-1], ap)
        return runs

    return rows


def results_of(*rows, **settings):
    runs = [run for row in rows for run in row]
    return Ablation(**settings).run(groups(*runs), Library())


def table(*rows, **settings):
    return results_of(*rows, **settings).tables["ablation"]


def axes_of(results):
    return results.pictures["ablation"].axes


def test_means_and_intervals_by_hand(make):
    """Over 30, 31 and 32: mean 31, std 1, t(2) = 4.303 at 95 %, 4.303 / sqrt(3) = 2.484."""
    frame = table(make(0.30, 0.31, 0.32, weight=2.0), make(0.33, 0.35, weight=0.5))
    assert frame[["setting", "row", "value", "n"]].to_numpy().tolist() == [
        ["weight", "RM", 0.5, 2],
        ["weight", "RM", 2, 3],
    ]
    low, high = frame.iloc[0], frame.iloc[1]
    assert high[["mean", "std", "low", "high"]].tolist() == pytest.approx(
        [31, 1, 31 - 2.484, 31 + 2.484], abs=1e-3
    )
    assert low["mean"] == pytest.approx(34)
    assert low["high"] == pytest.approx(34 + 12.706, abs=1e-3)  # t(1) * sqrt(2) / sqrt(2)


def test_the_confidence_and_the_metric_are_settings(make, tmp_path):
    rows = make(0.30, 0.32, weight=2.0), make(0.33, weight=1.0)
    write_metrics(rows[1][0], 0.3, AP50=0.5)
    frame = table(*rows, confidence=0.9, metric="AP50")
    assert frame["mean"].tolist() == pytest.approx([50, 31])
    assert frame.loc[1, "high"] == pytest.approx(31 + 6.314, abs=1e-3)


def test_the_caption_states_that_one_seed_has_no_interval(make):
    results = results_of(make(0.3, weight=1.0), make(0.4, weight=2.0))
    frame = results.tables["ablation"]
    assert frame[["std", "low", "high"]].isna().all(axis=None)
    assert "Each row has one seed, so there are no intervals" in results.caption
    assert "highest at weight 2 (40.0) and lowest at 1 (30.0)" in results.caption


def test_teacher_baseline_and_other_methods_are_lines(make):
    baseline, other = make(0.25, 0.27, method=""), make(0.31, method="fitnets")
    results = results_of(make(0.3, weight=1.0), make(0.4, weight=2.0), baseline, other)
    frame = results.tables["ablation"].set_index("row")
    assert frame.loc["Student", ["setting", "value"]].tolist() == ["", ""]
    (axes,) = axes_of(results)
    heights = {
        line.get_label(): line.get_ydata()[0]
        for line in axes.lines
        if not line.get_label().startswith("_")
    }
    assert heights["Student"] == pytest.approx(26)
    assert heights["FitNets"] == pytest.approx(31)
    (band,) = axes.patches  # only the baseline has several seeds
    assert band.get_y() == pytest.approx(26 - 12.706, abs=1e-3)


def test_settings_swept_one_at_a_time_have_a_panel_each(make):
    rows = [
        make(0.30, weight=1.0),
        make(0.31, weight=2.0),
        make(0.32, temperature=2.0),
        make(0.33, temperature=4.0),
    ]
    frame = table(*rows)
    by_setting = {name: lines["value"].tolist() for name, lines in frame.groupby("setting")}
    assert by_setting == {"weight": [1, 2], "temperature": [1, 2, 4]}
    assert set(frame["row"]) == {"RM"}
    assert set(table(*rows, setting="weight")["setting"]) == {"weight"}
    with pytest.raises(UserError, match="no 'wieght' is swept; did you mean 'weight'"):
        table(*rows, setting="wieght")


def test_a_grid_of_two_settings_has_a_row_for_each_value_of_the_other(make):
    rows = [make(0.3, weight=w, temperature=t) for w in (1.0, 2.0) for t in (1.0, 4.0)]
    results = results_of(*rows, setting="weight")
    frame = results.tables["ablation"]
    assert set(frame["row"]) == {"RM (temperature 1)", "RM (temperature 4)"}
    colors = {to_hex(line.lines[0].get_color()) for line in axes_of(results)[0].containers}
    assert len(colors) == 2


def test_methods_share_the_panel_of_a_setting_with_one_name(make):
    rows = [make(0.3, method=m, weight=w) for m in ("rm", "pfi") for w in (1.0, 2.0)]
    frame = table(*rows)
    assert set(frame["setting"]) == {"weight"}
    assert frame["row"].tolist() == ["RM", "RM", "PFI", "PFI"]


def test_a_term_of_a_sum_keeps_its_name(tmp_path):
    runs = []
    for weight in (1.0, 2.0):
        settings = {"rm": {"weight": weight}, "pfi": {"weight": 1.5}}
        runs.append(write_run(tmp_path / f"{weight}", settings))
        write_metrics(runs[-1], 0.3)
    assert set(table(runs)["setting"]) == {"rm.weight"}


def test_each_student_has_its_own_row(make):
    rows = [make(0.3, student=s, weight=w) for s in ("r18", "r34") for w in (1.0, 2.0)]
    assert set(table(*rows)["row"]) == {"RM (r18)", "RM (r34)"}


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((1.0, 2.0, 4.0), "linear"),
        ((0.1, 1.0, 10.0), "log"),
        ((0.0, 0.1, 10.0), "symlog"),
        ((-1.0, 1.0, 100.0), "linear"),
    ],
)
def test_numbers_have_an_axis_of_numbers(make, values, scale):
    results = results_of(*(make(0.3, weight=value) for value in values))
    (axes,) = axes_of(results)
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    assert low < values[0] and high > values[-1]
    if scale != "linear":
        assert [text.get_text() for text in axes.get_xticklabels()] == [f"{v:g}" for v in values]


def test_labels_of_close_values_do_not_overlap(make):
    (axes,) = axes_of(results_of(*(make(0.3, weight=value) for value in (1.0, 1.01, 2.0))))
    assert "1.01" not in [text.get_text() for text in axes.get_xticklabels()]


def test_names_are_evenly_spaced_without_a_line(make):
    values = (None, True, [0, 1], "softmax", 2)
    (axes,) = axes_of(results_of(*(make(0.3, form=value) for value in values)))
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["none", "on", "[0, 1]", "softmax", "2"]
    (points,) = axes.containers
    assert points.lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4]
    assert points.lines[0].get_linestyle() == "None"


def test_an_undefined_metric_is_left_out(make):
    rows = make(0.3, weight=1.0), make(None, weight=2.0)
    results = results_of(*rows)
    assert results.tables["ablation"]["n"].tolist() == [1, 0]
    nothing = make(None, weight=1.0), make(None, weight=2.0)
    with pytest.raises(UserError, match="AP is not defined for any of the runs"):
        results_of(*nothing)


def test_runs_without_a_sweep_are_refused(make):
    with pytest.raises(UserError, match="give those of a table with a 'sweep'"):
        results_of(make(0.3, 0.4), make(0.2, method=""))
    with pytest.raises(UserError, match="differ in one setting alone"):
        results_of(make(0.3), make(0.2, weight=2.0, temperature=2.0))


def test_twelve_methods_fit(make):
    rows = [make(0.3, 0.31, method=f"m{n}", weight=w) for n in range(12) for w in (1.0, 2.0, 4.0)]
    results = results_of(*rows)
    (axes,) = axes_of(results)
    assert len(axes.containers) == 12
    (legend,) = results.pictures["ablation"].legends
    assert len(legend.get_texts()) == 12


def test_the_csv_draws_the_same(make):
    rows = make(0.3, 0.4, weight=1.0), make(0.35, weight=4.0), make(0.2, 0.3, method="")
    results = results_of(*rows)
    frame = results.tables["ablation"]
    reread = pd.read_csv(io.StringIO(frame.to_csv(index=False)), keep_default_na=True)
    reread = reread.fillna({"setting": "", "value": ""})
    looks = dict.fromkeys(("RM", "Student"), look("distilled", "rm"))
    for axes, other in zip(axes_of(results), plot(reread, looks, "AP").axes, strict=True):
        for line, same in zip(axes.lines, other.lines, strict=True):
            assert line.get_xydata() == pytest.approx(same.get_xydata(), nan_ok=True)


@pytest.mark.parametrize("lowest", [0.10, 0.29])
def test_every_point_and_bar_lies_within_the_axis(make, lowest):
    rows = [make(0.30, 0.31, weight=4.0), make(lowest, lowest + 0.02, weight=1.0)]
    (axes,) = axes_of(
        results_of(*rows, make(0.30, method=None), make(0.32, method=None, student="r50"))
    )
    low, high = axes.get_ylim()
    frame = table(*rows)
    assert low < frame["low"].min() and frame["high"].max() < high


def test_values_of_one_seed_are_points_on_an_axis_of_five_points(make):
    (axes,) = axes_of(results := results_of(make(0.30, weight=1.0), make(0.307, weight=4.0)))
    low, high = axes.get_ylim()
    assert high - low >= 5
    line = axes.containers[0].lines[0]
    assert line.get_linestyle() == "None"
    assert line.get_xdata().tolist() == [1, 4]
    assert results.pictures["ablation"].get_supylabel() == "AP (points), 1 seed"
