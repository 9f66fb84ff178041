"""Ablations: which setting is swept, what stands at its values, and how it is drawn."""

import io

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from analysis.figures.ablation.analysis import Ablation
from analysis.figures.ablation.plot import plot
from kd.common.errors import UserError
from kd.config.library import Library
from tests.analysis.fakes import groups, write_metrics, write_run

BASE = {"weight": 1.0, "temperature": 1.0}


@pytest.fixture
def make(tmp_path):
    """Return a function that makes the runs of a row, a seed for each AP."""

    def rows(*aps, method="rm", student="r18", **settings):
        made = []
        for seed, ap in enumerate(aps):
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            methods = {method: BASE | settings} if method else None
            made.append(write_run(folder, methods, seed, student=student))
            write_metrics(made[-1], ap)
        return made

    return rows


def found(*rows, **settings):
    listed = [run for row in rows for run in row]
    return Ablation(**settings).run(groups(*listed), Library())


def table(*rows, **settings):
    return found(*rows, **settings).tables["ablation"]


def axes_of(findings):
    return findings.pictures["ablation"].axes


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


def test_the_confidence_and_the_figure_are_settings(make, tmp_path):
    rows = make(0.30, 0.32, weight=2.0), make(0.33, weight=1.0)
    write_metrics(rows[1][0], 0.3, AP50=0.5)
    frame = table(*rows, confidence=0.9, metric="AP50")
    assert frame["mean"].tolist() == pytest.approx([50, 31])
    assert frame.loc[1, "high"] == pytest.approx(31 + 6.314, abs=1e-3)


def test_one_seed_has_no_interval_and_the_caption_says_so(make):
    findings = found(make(0.3, weight=1.0), make(0.4, weight=2.0))
    frame = findings.tables["ablation"]
    assert frame[["std", "low", "high"]].isna().all(axis=None)
    assert "One seed each: there are no intervals" in findings.caption
    assert "highest at weight 2 (40.0) and lowest at 1 (30.0)" in findings.caption


def test_teacher_baseline_and_other_methods_are_lines(make):
    baseline, other = make(0.25, 0.27, method=""), make(0.31, method="fitnets")
    findings = found(make(0.3, weight=1.0), make(0.4, weight=2.0), baseline, other)
    frame = findings.tables["ablation"].set_index("row")
    assert frame.loc["Student", ["setting", "value"]].tolist() == ["", ""]
    (axes,) = axes_of(findings)
    heights = {
        line.get_label(): line.get_ydata()[0]
        for line in axes.lines
        if not line.get_label().startswith("_")
    }
    assert heights["Student"] == pytest.approx(26)
    assert heights["FitNets"] == pytest.approx(31)
    (band,) = axes.patches  # of the baseline alone, for the other has one seed
    assert band.get_y() == pytest.approx(26 - 12.706, abs=1e-3)


def test_settings_swept_one_at_a_time_have_a_panel_each(make):
    rows = [
        make(0.30, weight=1.0),
        make(0.31, weight=2.0),
        make(0.32, temperature=2.0),
        make(0.33, temperature=4.0),
    ]
    frame = table(*rows)
    by_setting = {name: own["value"].tolist() for name, own in frame.groupby("setting")}
    assert by_setting == {"weight": [1, 2], "temperature": [1, 2, 4]}
    assert set(frame["row"]) == {"RM"}
    assert set(table(*rows, setting="weight")["setting"]) == {"weight"}
    with pytest.raises(UserError, match="no 'wieght' is swept; did you mean 'weight'"):
        table(*rows, setting="wieght")


def test_a_grid_of_two_settings_has_a_row_for_each_value_of_the_other(make):
    rows = [make(0.3, weight=w, temperature=t) for w in (1.0, 2.0) for t in (1.0, 4.0)]
    findings = found(*rows, setting="weight")
    frame = findings.tables["ablation"]
    assert set(frame["row"]) == {"RM (temperature 1)", "RM (temperature 4)"}
    colours = {to_hex(line.lines[0].get_color()) for line in axes_of(findings)[0].containers}
    assert len(colours) == 2


def test_several_methods_share_a_panel_of_a_setting_of_one_name(make):
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


def test_students_are_rows_of_their_own(make):
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
    findings = found(*(make(0.3, weight=value) for value in values))
    (axes,) = axes_of(findings)
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    assert low < values[0] and high > values[-1]
    if scale != "linear":
        assert [text.get_text() for text in axes.get_xticklabels()] == [f"{v:g}" for v in values]


def test_values_that_are_close_do_not_have_labels_on_each_other(make):
    (axes,) = axes_of(found(*(make(0.3, weight=value) for value in (1.0, 1.01, 2.0))))
    assert "1.01" not in [text.get_text() for text in axes.get_xticklabels()]


def test_names_are_evenly_spaced_and_not_joined(make):
    values = (None, True, [0, 1], "softmax", 2)
    (axes,) = axes_of(found(*(make(0.3, form=value) for value in values)))
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["none", "on", "[0, 1]", "softmax", "2"]
    (points,) = axes.containers
    assert points.lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4]
    assert points.lines[0].get_linestyle() == "None"


def test_an_undefined_figure_is_left_out_and_said(make):
    rows = make(0.3, weight=1.0), make(None, weight=2.0)
    findings = found(*rows)
    assert findings.tables["ablation"]["n"].tolist() == [1, 0]
    nothing = make(None, weight=1.0), make(None, weight=2.0)
    with pytest.raises(UserError, match="AP is not defined for any of the runs"):
        found(*nothing)


def test_runs_without_a_sweep_are_refused(make):
    with pytest.raises(UserError, match="give those of a table with a 'sweep'"):
        found(make(0.3, 0.4), make(0.2, method=""))
    with pytest.raises(UserError, match="differ in one setting alone"):
        found(make(0.3), make(0.2, weight=2.0, temperature=2.0))


def test_twelve_methods_fit(make):
    rows = [make(0.3, 0.31, method=f"m{n}", weight=w) for n in range(12) for w in (1.0, 2.0, 4.0)]
    findings = found(*rows)
    (axes,) = axes_of(findings)
    assert len(axes.containers) == 12
    (legend,) = findings.pictures["ablation"].legends
    assert len(legend.get_texts()) == 12


def test_the_csv_draws_the_same(make):
    rows = make(0.3, 0.4, weight=1.0), make(0.35, weight=4.0), make(0.2, 0.3, method="")
    listed = groups(*(run for row in rows for run in row))
    findings = found(*rows)
    frame = findings.tables["ablation"]
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)), keep_default_na=True)
    again = again.fillna({"setting": "", "value": ""})
    looks = dict.fromkeys(("RM", "Student"), listed[0].look)
    for axes, other in zip(axes_of(findings), plot(again, looks, "AP").axes, strict=True):
        for line, same in zip(axes.lines, other.lines, strict=True):
            assert line.get_xydata() == pytest.approx(same.get_xydata(), nan_ok=True)


@pytest.mark.parametrize("lowest", [0.10, 0.29])
def test_every_point_and_bar_lies_within_the_axis(make, lowest):
    rows = [make(0.30, 0.31, weight=4.0), make(lowest, lowest + 0.02, weight=1.0)]
    (axes,) = axes_of(found(*rows, make(0.30, method=None), make(0.32, method=None, student="r50")))
    low, high = axes.get_ylim()
    frame = table(*rows)
    assert low < frame["low"].min() and frame["high"].max() < high
