"""TIDE of runs: tables, pictures, caption and settings."""

import numpy as np
import pandas as pd
import pytest

from analysis.figures import get
from analysis.figures.tide.analysis import Tide
from analysis.figures.tide.compute import (
    AVERAGED,
    IOU50,
    QUANTITIES,
    differences,
    measure_runs,
    select_baseline,
)
from analysis.figures.tide.errors import ERRORS, MAIN, THRESHOLDS, measure_errors, overlaps_of
from analysis.figures.tide.plot import SHADES, plot, plot_figures, plot_shares
from analysis.plotting.style import BASELINE, TEACHER, look, row_looks
from analysis.statistics.bootstrap import resample
from kd.common.errors import UserError
from kd.config.library import Library
from kd.data.readers import GroundTruth
from kd.evaluation.matching import pair
from tests.analysis.fakes import groups, write_detections, write_run
from tests.analysis.figures.legibility import faults
from tests.support.scenes import coco

CAT, DOG = 3, 6
OBJECTS = [(1, CAT, (0, 0, 40, 40)), (1, DOG, (100, 0, 40, 40)), (2, CAT, (0, 0, 40, 40))]
TRUTH = coco(OBJECTS, images=(1, 2, 3))
PERFECT = [(1, 0, [0, 0, 40, 40], 0.9), (1, 1, [100, 0, 40, 40], 0.8), (2, 0, [0, 0, 40, 40], 0.7)]
BADLY_PLACED = [(1, 0, [0, 0, 40, 18], 0.9), *PERFECT[1:]]
MISNAMED = [(1, 1, [0, 0, 40, 40], 0.9), *PERFECT[1:]]


@pytest.fixture(scope="module", autouse=True)
def _split():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.runs.groups.truth_of", lambda *_: GroundTruth(TRUTH, [], ""))
        yield


def write(folder, *runs):
    """Return the groups of runs, each a method, a seed and detections."""
    folders = []
    for number, (method, seed, records) in enumerate(runs):
        folders.append(write_run(folder / str(number), {method: {}} if method else {}, seed=seed))
        write_detections(folders[-1], records)
    return groups(*folders)


@pytest.fixture(scope="module")
def run_groups(tmp_path_factory):
    runs = [("", 0, BADLY_PLACED), ("", 1, MISNAMED), ("rm", 0, PERFECT), ("dicod", 0, [])]
    return write(tmp_path_factory.mktemp("runs"), *runs)


def results_of(run_groups, **settings):
    return Tide(**({"resamples": 20} | settings)).run(run_groups, Library())


@pytest.fixture(scope="module")
def results(run_groups):
    return results_of(run_groups)


def points(frame, run, quantity, iou=IOU50):
    lines = frame[(frame["run"] == run) & (frame["quantity"] == quantity) & (frame["iou"] == iou)]
    return lines["points"].tolist()


def panels(figure):
    """Return the axes of costs and of differences by their titles."""
    titled = [(axes.get_title(loc="left"), axes) for axes in figure.axes]
    return dict(titled[: len(ERRORS)]), dict(titled[len(ERRORS) :])


def test_every_run_and_seed_has_costs_at_one_threshold_and_averaged(results):
    frame = results.tables["tide"]
    assert frame["quantity"].tolist() == list(QUANTITIES) * 2 * 4
    assert points(frame, "RM", "AP") == pytest.approx([100])
    badly, misnamed = points(frame, "Student", "AP")
    assert points(frame, "Student", "Loc") == pytest.approx([100 - badly, 0])
    assert points(frame, "Student", "Cls") == pytest.approx([0, 100 - misnamed])
    assert points(frame, "DICOD", "Miss", AVERAGED) == pytest.approx([100])
    assert points(frame, "RM", "Loc", AVERAGED) == pytest.approx([0])
    missed = frame[(frame["run"] == "DICOD") & (frame["quantity"] == "Miss")]
    assert missed["count"].tolist() == [3, 3]


def test_costs_are_averaged_over_thresholds(results):
    curve = results.tables["tide-thresholds"]
    assert sorted(set(curve["iou"])) == list(THRESHOLDS)
    lines = curve[(curve["run"] == "Student") & (curve["seed"] == 0)]
    mean = lines[lines["quantity"] == "Loc"]["points"].mean()
    assert points(results.tables["tide"], "Student", "Loc", AVERAGED)[0] == pytest.approx(mean)


def test_errors_are_counted_by_class(results):
    frame = results.tables["tide-by-class"]
    assert list(frame) == ["run", "seed", "class", "objects", "AP50", *ERRORS]
    misnamed = frame[(frame["run"] == "Student") & (frame["seed"] == 1)].set_index("class")
    assert misnamed["objects"].tolist() == [2, 1]
    assert misnamed["Cls"].tolist() == [0, 1]
    assert misnamed["FN"].tolist() == [1, 0]


def test_differences_are_those_of_means_with_intervals_of_the_same_images(run_groups):
    results = results_of(run_groups, resamples=30, seed=4, confidence=0.8)
    frame, costs = results.tables["tide-differences"], results.tables["tide"]
    assert list(dict.fromkeys(frame["run"])) == ["RM", "DICOD"]
    assert set(frame["baseline"]) == {"Student"}
    line = frame[(frame["run"] == "RM") & (frame["quantity"] == "Loc") & (frame["iou"] == IOU50)]
    expected = points(costs, "RM", "Loc")[0] - np.mean(points(costs, "Student", "Loc"))
    assert line["difference"].item() == pytest.approx(expected)

    weights = resample(3, 30, 4)
    gains = [
        measure_errors(overlaps_of(pair(TRUTH, coco_results(records))), 0.5, weights).gains[
            ERRORS.index("Loc")
        ]
        for records in (PERFECT, BADLY_PLACED, MISNAMED)
    ]
    gaps = (gains[0] - (gains[1] + gains[2]) / 2)[1:]
    ends = np.quantile(gaps, [0.1, 0.9])
    assert line[["low", "high"]].values[0] == pytest.approx(ends)


def coco_results(records):
    keys = ("image_id", "category_id", "bbox", "score")
    return [
        dict(zip(keys, (image, (CAT, DOG)[label], box, score), strict=True))
        for image, label, box, score in records
    ]


def test_equal_runs_have_no_differences(tmp_path):
    results = results_of(write(tmp_path, ("", 0, MISNAMED), ("rm", 0, MISNAMED)))
    assert (results.tables["tide-differences"][["difference", "low", "high"]] == 0).all(axis=None)
    assert "does not contain zero: none." in results.caption


def test_bars_and_points_are_the_numbers_of_the_tables(results):
    costs, gaps = panels(results.pictures["tide"])
    assert list(costs) == list(gaps) == list(ERRORS)
    names = [text.get_text() for text in costs["Cls"].get_yticklabels()]
    assert names == ["Student", "RM", "DICOD"]
    frame = results.tables["tide"]
    bars = [bar.get_width() for bar in costs["Miss"].patches]
    assert bars == pytest.approx([np.mean(points(frame, name, "Miss")) for name in names])
    (averaged,) = costs["Miss"].lines
    assert averaged.get_xdata()[2] == pytest.approx(points(frame, "DICOD", "Miss", AVERAGED)[0])
    rows = [text.get_text() for text in gaps["Cls"].get_yticklabels()]
    assert rows == ["RM", "DICOD"]  # not the baseline itself
    values = [bar.lines[0].get_xdata()[0] for bar in gaps["Miss"].containers]
    table = results.tables["tide-differences"]
    expected = table[(table["quantity"] == "Miss") & (table["iou"] == IOU50)]["difference"]
    assert values[:2] == expected.tolist()


def test_the_teacher_does_not_set_the_scale_of_differences(results):
    table = results.tables["tide-differences"]
    teacher = table[table["run"] == "RM"].assign(run="Teacher")
    teacher[["difference", "low", "high"]] = [50.0, 40.0, 60.0]
    student = table[table["run"] == "RM"]
    student = student.assign(difference=1.0, low=-1.0, high=2.0)
    looks = {"Student": BASELINE, "Teacher": TEACHER, "RM": look("distilled", "rm")}
    costs = results.tables["tide"].query("run == 'RM'")
    costs = pd.concat([costs.assign(run=run) for run in looks])
    _, gaps = panels(plot(costs, pd.concat([teacher, student]), looks))
    for axes in gaps.values():
        assert 2 < axes.get_xlim()[1] < 3
        assert [text.get_text() for text in axes.texts] == ["+50.0 >"] * 2


def test_bars_show_the_shares_of_the_main_errors(results):
    (axes,) = results.pictures["tide-share"].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Student", "RM", "DICOD"]
    assert [text.get_text() for text in axes.texts if text.get_text()[0].isalpha()] == ["no error"]
    shares = np.array([bar.get_width() for bar in axes.patches]).reshape(len(MAIN), 3)
    assert shares[:, 2] == pytest.approx([0, 0, 0, 0, 0, 100])
    assert shares.sum(axis=0) == pytest.approx([100, 0, 100])
    assert len(SHADES) == len(MAIN)


def test_curves_show_class_and_location_errors_over_the_threshold(results):
    figure = results.pictures["tide-thresholds"]
    classes, places = figure.axes
    assert classes.get_title(loc="left") == "Cls" and places.get_title(loc="left") == "Loc"
    assert len(places.lines) == 3
    assert list(places.lines[0].get_xdata()) == pytest.approx(THRESHOLDS)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Student", "RM", "DICOD"]
    for axes in figure.axes:
        assert axes.get_xlim() == pytest.approx((THRESHOLDS[0], THRESHOLDS[-1]))


def test_one_run_has_no_differences(tmp_path):
    results = results_of(write(tmp_path, ("", 0, MISNAMED)))
    assert results.tables["tide-differences"].empty
    assert len(results.pictures["tide"].axes) == len(ERRORS)
    assert "Intervals" not in results.caption


def test_the_baseline_is_a_label_or_none(run_groups):
    assert select_baseline(run_groups, "auto") == "Student"
    assert select_baseline(run_groups[1:], "auto") == "RM"
    assert select_baseline(run_groups, "RM") == "RM"
    with pytest.raises(UserError, match="baseline: none of the runs is 'RN'; did you mean 'RM'"):
        select_baseline(run_groups, "RN")
    assert results_of(run_groups, baseline=None).tables["tide-differences"].empty


def test_without_resamples_there_are_differences_without_intervals(run_groups):
    runs = measure_runs(run_groups, TRUTH, resample(3, 0, 0), 0.1)
    frame = differences(runs, "RM", 0.95)
    assert list(dict.fromkeys(frame["run"])) == ["Student", "DICOD"]
    assert frame["difference"].notna().all() and frame[["low", "high"]].isna().all(axis=None)


def test_twelve_runs_have_twelve_bars(results):
    lines = results.tables["tide"].query("run == 'DICOD'")
    labels = [f"Run {number}" for number in range(12)]
    figure = plot_shares(pd.concat([lines.assign(run=label) for label in labels]), labels)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == labels


@pytest.mark.parametrize("count", [4, 14])
def test_pictures_are_legible(results, count):
    names = ["Student", *(f"Method {number}" for number in range(count))]
    tables = {
        name: pd.concat(
            [frame[frame["run"] == "Student"], *(copy_of(frame, run) for run in names[1:])]
        )
        for name, frame in results.tables.items()
    }
    looks = dict(zip(names, row_looks([("", name) for name in ["", *names[1:]]]), strict=True))
    pictures = plot_figures(tables, looks)
    assert {name: faults(picture) for name, picture in pictures.items()} == {
        name: [] for name in Tide.pictures
    }


def copy_of(frame, run):
    return frame[frame["run"] == "DICOD"].assign(run=run)


def test_alternative_texts_state_the_costs(results):
    texts = results.alt_texts
    assert set(texts) == set(Tide.pictures)
    assert "Miss is highest for DICOD (100.0)" in texts["tide"]
    assert "intervals at IoU 0.50 do not contain zero" in texts["tide"]


def test_the_caption_names_the_costliest_errors_and_the_interval(results):
    caption = results.caption
    assert "RM none" in caption and "DICOD Miss (100.0)" in caption
    assert "the middle 95 % of 20 resamples of the 3 test images" in caption


def test_settings_out_of_range_are_errors():
    assert get("tide") is Tide
    for settings in ({"background": 0.05}, {"confidence": 1}, {"resamples": -1}):
        with pytest.raises(UserError, match=next(iter(settings))):
            Tide.parse(settings, "settings")
