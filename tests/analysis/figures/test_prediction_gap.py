"""P_dif and F_dif of maps made by hand and of tiny detectors, tables and pictures."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.figures.analyze import analyze
from analysis.figures.map_gaps import Gap, gaps
from analysis.figures.prediction_gap.analysis import PredictionGap
from analysis.figures.prediction_gap.compute import (
    describe,
    describe_marks,
    image_lines,
    mark_lines,
    summary,
)
from analysis.figures.prediction_gap.gaps import (
    GapImage,
    apart,
    apart_share,
    gap_images,
    marks,
    similarity,
)
from analysis.figures.prediction_gap.plot import plot
from analysis.figures.prediction_gap.plot_maps import color_scales, plot_maps
from analysis.plotting.style import BASELINE
from kd.common.errors import UserError
from kd.config.library import Library
from kd.observers import observe
from tests.analysis.figures.legibility import faults
from tests.analysis.random_runs import write_runs

RISING = [[0.1, 0.2], [0.3, 0.4]]


def gap(prediction, feature, stride=8):
    return Gap(stride, np.array(prediction, float), np.array(feature, float))


def image(*students, size=(16, 16)):
    boxes = np.array([[2.0, 2, 9, 9]])
    return GapImage("images/1.png", np.full((*size, 3), 0.5), boxes, [list(s) for s in students])


# --- Two maps ------------------------------------------------------------------------------


def test_identical_maps_have_full_correlation():
    values = similarity(gap(RISING, RISING))
    assert values[:2] == (pytest.approx(1), pytest.approx(1))
    assert values.share == pytest.approx(0.4)  # one cell of four, a tenth rounded up


def test_values_worked_out_by_hand():
    values = similarity(gap([[1, 2, 3, 4]], [[1, 9, 4, 2]]))
    # Deviations -1.5, -0.5, 0.5, 1.5 and -3, 5, 0, -2; ranks 1, 4, 3, 2.
    assert values.pearson == pytest.approx((4.5 - 2.5 - 3) / math.sqrt(5 * 38))
    assert values.spearman == pytest.approx(1 - 6 * (0 + 4 + 0 + 4) / (4 * 15))
    assert values.share == pytest.approx(2 / 16)


def test_the_share_is_that_of_a_tenth_of_the_cells():
    prediction, feature = np.arange(20.0).reshape(4, 5), np.ones((4, 5))
    feature[3, 3:] = 11, 21  # the two cells of the highest P_dif
    assert similarity(gap(prediction, feature)).share == pytest.approx(32 / 50)


def test_cells_that_tie_share_the_last_place():
    values = similarity(gap([[0, 1, 1]], [[5, 1, 3]]))
    assert values.share == pytest.approx(2 / 9)
    assert values == pytest.approx(similarity(gap([[1, 1, 0]], [[3, 1, 5]])))


def test_a_monotone_map_has_rank_correlation_one():
    values = similarity(gap(RISING, np.exp(10 * np.array(RISING))))
    assert values.spearman == pytest.approx(1) and values.pearson < 0.95


def test_similarity_does_not_depend_on_scale():
    generator = np.random.default_rng(0)
    prediction, feature = generator.random((2, 6, 7))
    scaled = similarity(gap(1e-6 * prediction, 40 * feature))
    assert scaled == pytest.approx(similarity(gap(prediction, feature)))


@pytest.mark.parametrize(
    ("prediction", "feature"),
    [([[0.2]], [[3.0]]), ([[1, 1]], [[1, 2]]), ([[1, 2]], [[0, 0]]), ([[0, 0]], [[0, 0]])],
)
def test_constant_maps_are_undefined(prediction, feature):
    assert all(math.isnan(value) for value in similarity(gap(prediction, feature)))


# --- Marks ---------------------------------------------------------------------------------


def crossing(**feature):
    """Return maps of 5 x 4 cells: P_dif rises from 0 to 19, F_dif is 1 except at some cells."""
    values = np.ones(20)
    for cell, value in feature.items():
        values[int(cell[1:])] = value
    return gap(np.arange(20.0).reshape(5, 4), values.reshape(5, 4))


def test_cells_apart_have_the_highest_feature_gap_and_a_low_prediction_gap():
    """A tenth of 20 cells is two; the median of P_dif is 9.5."""
    both_low, one_high = crossing(c0=3, c9=2), crossing(c0=3, c19=9)
    assert np.flatnonzero(apart(both_low)).tolist() == [0, 9] and apart_share(both_low) == 1
    assert np.flatnonzero(apart(one_high)).tolist() == [0] and apart_share(one_high) == 0.5
    assert not apart(crossing(c18=3, c19=9)).any() and apart_share(crossing(c18=3, c19=9)) == 0


def test_marks_are_groups_of_neighbors_by_their_feature_gap():
    values = np.zeros((10, 10))
    values[0, 0] = values[1, 1] = 3  # neighbors by a corner
    values[0, 9] = 7
    values[4, 4:7] = 1
    prediction = np.ones((10, 10))
    prediction[values > 0] = 0
    first, second, third = marks(gap(prediction, values + 1e-3 * prediction), 3)
    assert (first.box.tolist(), first.cells) == ([72, 0, 80, 8], 1)
    assert (second.box.tolist(), second.cells) == ([0, 0, 16, 16], 2)
    assert (third.box.tolist(), third.cells) == ([32, 32, 56, 40], 3)
    assert (second.feature, second.prediction) == (6, 0)
    assert len(marks(gap(prediction, values + 1e-3 * prediction), 1)) == 1


def test_constant_maps_have_no_marks():
    constant = gap([[1, 1]], [[1, 2]])
    assert marks(constant, 3) == [] and math.isnan(apart_share(constant))


def test_lines_of_marks_name_run_and_image():
    one, none = crossing(c0=3, c9=2), crossing(c18=3, c19=9)
    frame = mark_lines([image([one], [none]), image([one], [one])], ["FitNets", "PFI"], 0)
    assert frame[["run", "image", "mark"]].to_numpy().tolist() == [
        ["FitNets", 0, 1], ["FitNets", 0, 2],
        ["FitNets", 1, 1], ["FitNets", 1, 2], ["PFI", 1, 1], ["PFI", 1, 2],
    ]  # fmt: skip
    assert frame.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == [0, 0, 8, 8]


# --- Detectors -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["retinanet", "gfl", "fcos", "atss", "ssd300", "yolov3"])
def test_gaps_are_mean_squared_differences_of_each_level(build, batch, family):
    data = batch()
    with torch.no_grad():
        teacher, student = (
            observe(build(family, seed).eval(), data, frozen=True) for seed in (0, 1)
        )
        student_gaps, same = gaps(student, teacher), gaps(student, student)
        maps = zip(teacher.probability_maps, student.probability_maps, strict=True)
        predictions = [((t - s) ** 2).sum(1)[0] / t.shape[1] for t, s in maps]
        necks = zip(teacher.neck, student.neck, strict=True)
        features = [((t - s) ** 2).sum(1)[0] / t.shape[1] for t, s in necks]
    assert [level_gap.stride for level_gap in student_gaps] == student.strides
    for level_gap, prediction, feature in zip(student_gaps, predictions, features, strict=True):
        np.testing.assert_allclose(level_gap.prediction, prediction, rtol=1e-4)
        np.testing.assert_allclose(level_gap.feature, feature, rtol=1e-4)
    assert not any(level_gap.prediction.any() or level_gap.feature.any() for level_gap in same)


# --- Frames and figures --------------------------------------------------------------------


def lines():
    """Return the lines of two images with two levels, the second with one cell."""
    similar, dissimilar = gap(RISING, RISING), gap(RISING, [[0.4, 0.3], [0.2, 0.1]])
    cell = gap([[0.1]], [[0.2]], 16)
    images = [image([similar, cell], [similar, cell]), image([dissimilar, cell], [similar, cell])]
    frames = [image_lines(image, n, ["Student", "PFI"]) for n, image in enumerate(images)]
    return pd.concat(frames, ignore_index=True)


def test_means_are_over_images_where_defined():
    frame = summary(lines(), 0)
    assert len(lines()) == 8 and len(frame) == 4
    student, coarse, pfi, _ = frame.to_dict("records")
    assert (student["run"], student["level"], student["stride"]) == ("Student", 0, 8)
    assert (student["images"], student["undefined"]) == (2, 0)
    assert student["spearman"] == pytest.approx(0)
    assert (student["spearman_low"], student["spearman_high"]) == pytest.approx((-1, 1))
    assert student["share"] == pytest.approx((0.4 + 0.1) / 2)
    assert student["p_dif"] == pytest.approx(0.25)
    assert pfi["pearson"] == pfi["pearson_low"] == pfi["pearson_high"] == pytest.approx(1)
    assert coarse["undefined"] == 2 and math.isnan(coarse["pearson"])
    sentence = describe(frame)
    assert "Student 0.00, undefined; PFI 1.00, undefined" in sentence
    assert "constant: 4" in sentence
    assert student["apart"] == 0.5  # the highest F_dif is at the highest P_dif in one of two images
    assert describe_marks(frame, 0).endswith("F_dif: Student 0.50, PFI 0.00.")
    assert describe_marks(frame, 1).endswith("F_dif: Student undefined, PFI undefined.")


def test_one_image_has_no_interval():
    frame = summary(lines().query("image == 0"), 0)
    assert frame["pearson"][0] == pytest.approx(1) and math.isnan(frame["pearson_low"][0])


def looks(*runs):
    return dict.fromkeys(runs, BASELINE)


def test_levels_without_a_value_have_no_panel():
    frame = summary(lines(), 0)
    figure = plot(frame, looks("Student", "PFI"))
    assert len(figure.axes) == 3
    assert figure.axes[0].get_title() == "level 0\n(stride 8)"
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["Student", "PFI"]
    values = [container.lines[0].get_xdata()[0] for container in figure.axes[1].containers]
    assert values == frame[frame["level"] == 0]["spearman"].tolist()


def test_all_panels_of_a_measure_have_one_scale_from_zero():
    frame = summary(lines().query("level == 0"), 0)
    coarse = frame.assign(level=1, pearson_low=-1, share=0.9, share_low=0.8, share_high=0.9)
    figure = plot(pd.concat([frame, coarse]), looks("Student", "PFI"))
    pearson, spearman, share = np.reshape(
        [axes.get_xlim() for axes in figure.axes], (3, 2, 2)
    ).tolist()
    assert pearson[0] == pearson[1] and spearman[0] == spearman[1] and share[0] == share[1]
    assert share[0] == pytest.approx([0, 1.08 * 0.9])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Student"]


def test_a_figure_without_values_states_the_reason():
    frame = summary(lines().query("level == 1"), 0)
    (text,) = plot(frame, looks("Student", "PFI")).texts
    assert "constant on every level" in text.get_text()


def maps(images, runs):
    return plot_maps(images, runs, 0, mark_lines(images, runs, 0))


def test_maps_cover_their_cells_and_share_a_scale():
    first = image([gap(RISING, RISING)], [gap(RISING, [[5, 5], [5, 5]])])
    figure = maps([first], ["Student", "PFI"])
    upper, lower = figure.axes[:3], figure.axes[3:]
    assert [axes.get_title() for axes in upper] == ["", "Student", "PFI"]
    drawn_map = upper[1].images[1]
    assert drawn_map.get_extent() == [-0.5, 15.5, 15.5, -0.5]
    np.testing.assert_array_equal(drawn_map.get_array(), RISING)
    assert upper[1].images[1].get_clim() == upper[2].images[1].get_clim()
    assert lower[1].images[1].get_clim() == lower[2].images[1].get_clim() == (0, 5)
    assert [axes.texts[0].get_text() for axes in lower[1:]] == ["r 1.00, rho 1.00", "undefined"]
    assert all(len(axes.patches) == 1 for axes in [*upper, *lower[1:]])
    assert faults(figure) == ["panel '' is empty"]  # it holds the color scales


def test_a_scale_ends_at_the_99th_percentile_of_the_drawn_maps():
    values = np.arange(100.0).reshape(10, 10)
    images = [
        image([gap(values, 0 * values)], [gap(values, 0 * values)], [gap(9 * values, values)])
    ]
    scales = color_scales(images, 2, 0)
    assert scales["prediction"] == (pytest.approx(np.percentile(values, 99), abs=0.6), 99)
    assert scales["prediction"].end < scales["prediction"].highest
    assert scales["feature"] == (1, 0)


def test_both_maps_of_a_run_have_its_rings():
    one, none = crossing(c0=3, c9=2), crossing(c18=3, c19=9)
    axes = maps([image([one], [none], size=(40, 32))], ["FitNets", "PFI"]).axes
    assert [len(panel.patches) for panel in axes[:6]] == [1, 3, 1, 0, 3, 1]
    ring = axes[1].patches[1]
    assert (ring.center, ring.width, ring.height) == ((3.5, 3.5), 16, 16)


def test_runs_beyond_the_first_have_no_maps():
    names = [f"run {number}" for number in range(12)]
    crowded = image(*[[gap(RISING, RISING)]] * 12)
    titles = [axes.get_title() for axes in maps([crowded], names).axes]
    assert [title for title in titles if title] == names[:4]


# --- Runs ----------------------------------------------------------------------------------


@pytest.fixture
def runs(study):
    """Return a function that writes the runs of a teacher, a baseline and a distilled student."""

    def write(*, wide=False):
        return write_runs(study(["fitnets"], teacher_detector="retinanet-wide" if wide else None))

    return write


def test_gaps_are_zero_only_for_the_teacher_itself(runs):
    teacher, students = runs()
    first, second = gap_images(teacher, [teacher, students[0]], None, 0)
    assert first.path != second.path
    same, other = first.students
    assert not any(level_gap.prediction.any() for level_gap in same)
    assert all(level_gap.prediction.all() and level_gap.feature.all() for level_gap in other)
    assert first.pixels.shape[:2] == tuple(8 * side for side in other[0].prediction.shape)


def test_the_analysis_writes_what_it_declares(runs, tmp_path):
    teacher, students = runs()
    settings = PredictionGap(images=2, examples=5)
    written = analyze(settings, [teacher, *students], tmp_path / "out", Library())
    assert {path.name for path in written} == set(PredictionGap.files())
    frame = pd.read_csv(tmp_path / "out" / "prediction_gap.csv")
    assert frame["run"].unique().tolist() == ["Student", "FitNets"]
    with pytest.raises(UserError, match="'level': 7, but the neck has levels 0 to 4"):
        analyze(PredictionGap(level=7), students, tmp_path / "none", Library())


def test_necks_of_other_widths_are_errors(runs):
    teacher, students = runs(wide=True)
    with pytest.raises(UserError, match=r"neck maps cannot be subtracted.*16, .*24, "):
        next(gap_images(teacher, students, 1, 0))
