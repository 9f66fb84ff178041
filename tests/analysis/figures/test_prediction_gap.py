"""P_dif and F_dif of maps made by hand and of tiny detectors, tables and pictures."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.figures.analyze import analyze
from analysis.figures.prediction_gap.analysis import PredictionGap
from analysis.figures.prediction_gap.compute import describe, image_lines, summary
from analysis.figures.prediction_gap.gaps import Gap, GapImage, gap_images, gaps, similarity
from analysis.figures.prediction_gap.plot import plot, plot_maps
from analysis.plotting.style import BASELINE
from kd.common.errors import UserError
from kd.config.library import Library
from kd.observers import observe
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


def test_maps_cover_their_cells_and_are_scaled():
    first = image([gap(RISING, RISING)], [gap(RISING, [[5, 5], [5, 5]])])
    figure = plot_maps([first], ["Student", "PFI"], 0)
    upper, lower = figure.axes[:3], figure.axes[3:]
    assert [axes.get_title() for axes in upper] == ["", "Student", "PFI"]
    drawn_map = upper[1].images[1]
    assert drawn_map.get_extent() == [-0.5, 15.5, 15.5, -0.5]
    np.testing.assert_array_equal(drawn_map.get_array(), RISING)
    assert drawn_map.get_clim() == (0, 0.4)
    assert lower[1].images[1].get_clim() == lower[2].images[1].get_clim() == (0, 5)
    assert [axes.texts[0].get_text() for axes in lower[1:]] == ["r 1.00, rho 1.00", "undefined"]
    assert all(len(axes.patches) == 1 for axes in [*upper, *lower[1:]])


def test_runs_beyond_the_first_have_no_maps():
    names = [f"run {number}" for number in range(12)]
    crowded = image(*[[gap(RISING, RISING)]] * 12)
    titles = [axes.get_title() for axes in plot_maps([crowded], names, 0).axes]
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
