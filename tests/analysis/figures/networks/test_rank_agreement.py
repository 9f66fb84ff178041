"""Rank agreement: priors of mmdet's detections, objects made by hand, tables and pictures."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from analysis.figures.analyze import analyze
from analysis.figures.final_boxes import PriorLevel
from analysis.figures.rank_agreement.analysis import RankAgreement
from analysis.figures.rank_agreement.compute import describe, gather, priors, summary
from analysis.figures.rank_agreement.plot import plot
from analysis.figures.rank_agreement.plot_objects import plot as plot_objects
from analysis.figures.rank_agreement.ranking import (
    RankedImage,
    Ranking,
    compare,
    positives_of,
    ranked_images,
    ranking,
)
from analysis.figures.requirements import check
from analysis.plotting.style import BASELINE, TEACHER
from analysis.statistics.bootstrap import resample
from analysis.statistics.resampled import bootstrap_mean
from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.config.library import Library
from kd.observers import observe
from tests.analysis.fakes import groups
from tests.analysis.random_runs import write_runs
from tests.support.paths import CONFIGS

FAMILIES = ["retinanet", "gfl", "atss", "fcos", "ssd300"]
CLASSES = ["circle", "square"]


# --- Ranks ---------------------------------------------------------------------------------


def test_kl_of_rank_mimicking_by_hand():
    teacher, student = torch.tensor([[0.9, 0.6, 0.1], [0.5, 0.6, 0.2]]).double()
    comparison = compare(teacher, student)
    assert comparison.kl == pytest.approx(0.024062, abs=1e-6)
    assert comparison.top1 == 0
    assert comparison.rho == pytest.approx(0.5)  # ranks 3 2 1 and 2 3 1: 1 - 6 * 2 / (3 * 8)


def test_tied_scores_share_their_mean_rank():
    comparison = compare(torch.tensor([3.0, 1, 2, 2]), torch.tensor([1.0, 2, 3, 4]))
    assert comparison.rho == pytest.approx(-1.5 / math.sqrt(4.5 * 5))


def test_equal_scores_agree_and_constant_ones_have_no_rank_correlation():
    scores = torch.tensor([0.3, 0.1, 0.2])
    assert compare(scores, scores) == (0, 1, pytest.approx(1))
    constant = compare(scores, torch.full((3,), 0.5))
    assert math.isnan(constant.rho) and constant.kl > 0


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_priors_have_no_ranks(count):
    assert all(math.isnan(value) for value in compare(torch.rand(count), torch.rand(count)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rank", ["classification", "localization"])
def test_rankings_of_one_detector_are_equal(detector, batch, family, rank):
    data = batch()
    observation = observe(detector(family), data, frozen=True)
    with torch.no_grad():
        observation.losses()
        positives = positives_of(observation)
        first_ranking, second_ranking = (
            ranking(observation, data, positives, rank) for _ in range(2)
        )
    assert sum(map(len, positives)) == (observation.assignment[0] >= 0).sum()
    assert torch.equal(first_ranking.prior, second_ranking.prior)
    for first, second in zip(first_ranking.scores, second_ranking.scores, strict=True):
        assert ((first >= 0) & (first <= 1)).all()
        if len(first) > 1:
            assert compare(first, second)[:2] == (0, 1)


# --- Frames --------------------------------------------------------------------------------


def image(teacher, *students, scores=None, side=20.0, path="images/1.png"):
    """Return an image with an object for each entry (prior, IoU) of ``teacher``."""
    count = len(teacher)
    scores = scores or [[0.6, 0.2, 0.1]] * (1 + len(students))

    def ranking(entries, student_scores):
        prior, iou = zip(*entries, strict=True)
        scored = [torch.tensor(student_scores)] * count
        return Ranking(torch.tensor(prior), torch.tensor(iou, dtype=torch.float), scored)

    return RankedImage(
        path=path,
        boxes=torch.tensor([[2.0, 2, 2 + side, 2 + side]] * count),
        labels=torch.arange(count) % 2,
        positives=[torch.tensor([0, 1, 4])[: len(scores[0])]] * count,
        anchors=[torch.tensor([[0.0, 0, 9, 9], [1, 1, 12, 12], [-3, 4, 30, 24]])] * count,
        levels=[PriorLevel(1, 2, 2), PriorLevel(1, 1, 2)],
        teacher=ranking(teacher, scores[0]),
        students=[
            ranking(student, student_scores)
            for student, student_scores in zip(students, scores[1:], strict=True)
        ],
    )


NONE = (-1, math.nan)


def gathered(*images, runs=("Student",), **settings):
    settings = {"easy": 0.75, "example_count": 2, "choice": "disagreement", "seed": 0} | settings
    return gather(images, list(runs), CLASSES, **settings)


def test_agreement_counts_objects_with_two_final_boxes():
    teacher = [(0, 0.9), (1, 0.6), (4, 0.8), NONE, (0, 0.7)]
    student = [(0, 0.8), (0, 0.5), NONE, (1, 0.9), (0, 0.6)]
    lines, _ = gathered(image(teacher, student), image([(0, 0.5)], [(1, 0.6)], side=100.0))
    assert lines["same"].tolist()[:3] == [1, 0, pytest.approx(math.nan, nan_ok=True)]
    assert lines["prior"].tolist()[:3] == ["0:0:0:0", "0:0:0:0", ""]
    assert lines["class"].tolist() == ["circle", "square"] * 2 + ["circle", "circle"]
    whole, easy, hard, small, medium, large = summary(lines, 0).to_dict("records")
    assert (whole["objects"], whole["teacher_found"], whole["found"], whole["both"]) == (6, 5, 5, 4)
    assert whole["agreement"] == 2 / 4
    assert (easy["objects"], easy["both"], easy["agreement"]) == (2, 1, 1)
    assert (hard["objects"], hard["both"], hard["agreement"]) == (4, 3, pytest.approx(1 / 3))
    assert [group["objects"] for group in (small, medium, large)] == [5, 0, 1]
    assert math.isnan(medium["agreement"]) and math.isnan(medium["kl_low"])
    assert whole["teacher_iou_same"] == pytest.approx((0.9 + 0.7) / 2)
    assert whole["iou_same"] == pytest.approx((0.8 + 0.6) / 2)
    assert whole["iou_different"] == pytest.approx((0.5 + 0.6) / 2)
    assert 0 <= whole["agreement_low"] <= whole["agreement"] <= whole["agreement_high"] <= 1


def test_the_teacher_agrees_with_itself():
    entries = [(0, 0.9), (1, 0.6)]
    whole = summary(gathered(image(entries, entries))[0], 0).iloc[0]
    assert (whole["agreement"], whole["kl"], whole["top1"]) == (1, 0, 1)
    assert whole["rho"] == pytest.approx(1)
    assert math.isnan(whole["agreement_low"])  # a single image has no interval


def test_the_bootstrap_resamples_images_not_objects():
    values, images = pd.Series([1.0, 1, 1, 0, np.nan]), pd.Series([0, 0, 0, 1, 1])
    middle, low, high = bootstrap_mean(values, images, resample(2, 400, 0))
    assert (middle, low, high) == (0.75, 0, 1)  # a quarter of the resamples has one image twice
    assert all(
        math.isnan(value) for value in bootstrap_mean(values[4:], images[4:], resample(2, 9, 0))
    )


def test_examples_are_the_objects_with_the_largest_kl_of_the_first_run():
    close = image([(0, 0.9)], [(0, 0.8)], scores=[[0.6, 0.2, 0.1], [0.6, 0.2, 0.2]])
    far = image([(0, 0.9)], [(0, 0.8)], scores=[[0.6, 0.2, 0.1], [0.1, 0.2, 0.9]])
    lone = image([(0, 0.9)], [(0, 0.8)], scores=[[0.6], [0.9]])
    _, examples = gathered(close, far, lone)
    assert [(example.image_number, example.index) for example in examples] == [(1, 0), (0, 0)]
    random = [
        gathered(close, far, lone, choice="random", example_count=1, seed=s)[1] for s in range(8)
    ]
    assert {example.image_number for (example,) in random} == {0, 1}


def test_the_table_of_priors_orders_them_by_the_teachers_score():
    _, examples = gathered(
        image([(4, 0.9)], [(1, 0.8)], scores=[[0.2, 0.1, 0.6], [0.3, 0.5, 0.4]]), example_count=1
    )
    frame = priors(examples, ["Student"])
    assert frame["run"].tolist() == ["Teacher"] * 3 + ["Student"] * 3
    assert frame["rank"].tolist() == [1, 2, 3] * 2
    assert frame["prior"].tolist() == ["1:0:0:0", "0:0:0:0", "0:0:0:1"] * 2
    assert frame["score"].tolist() == pytest.approx([0.6, 0.2, 0.1, 0.4, 0.3, 0.5])
    assert frame["final"].tolist() == [True, False, False, False, False, True]
    assert frame.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == [-3, 4, 30, 24]


# --- Figures -------------------------------------------------------------------------------


def looks(*runs):
    return {"Teacher": TEACHER} | dict.fromkeys(runs, BASELINE)


def test_the_figure_shows_each_runs_numbers():
    entries = [(0, 0.9), (1, 0.6)]
    images = [image(entries, [(0, 0.8), NONE], entries) for _ in range(3)]
    frame = summary(gathered(*images, runs=["Student", "RM"])[0], 0)
    figure = plot(frame, looks("Student", "RM"))
    agreement = figure.axes[0]
    assert [text.get_text() for text in agreement.get_yticklabels()] == ["Student", "RM"]
    values = [container.lines[0].get_xdata()[0] for container in agreement.containers]
    expected = [frame[frame["group"] == group]["agreement"] for group in ("all", "easy", "hard")]
    np.testing.assert_array_equal(values, np.concatenate(expected))
    assert len({axes.get_title(loc="left") for axes in figure.axes}) == 4
    assert [axes.get_xlim() for axes in figure.axes[:2]] == [(0, 1)] * 2
    assert figure.axes[3].get_xlim()[0] == 0
    assert figure.legends[0].get_texts()[-1].get_text() == "Student, all objects"


def test_small_values_of_kl_have_readable_ticks():
    images = [image([(0, 0.9), (1, 0.6)], [(0, 0.8), NONE]) for _ in range(3)]
    frame = summary(gathered(*images)[0], 0).assign(kl=5e-4, kl_low=4e-4, kl_high=6e-4)
    figure = plot(frame, looks("Student"))
    figure.draw_without_rendering()
    labels = [text.get_text() for text in figure.axes[3].get_xticklabels()]
    assert "0" in labels and not any("$" in label for label in labels)


def test_a_panel_without_values_states_this():
    frame = summary(gathered(image([NONE], [NONE], scores=[[0.6], [0.9]]))[0], 0)
    panels = plot(frame, looks("Student")).axes
    assert [axes.texts[0].get_text() for axes in panels] == ["undefined"] * 4
    assert "Student none of 0" in describe(frame, gathered(image([NONE], [NONE]))[0])


def test_panels_of_objects_name_their_best_priors(tmp_path):
    path = str(tmp_path / "1.png")
    Image.new("RGB", (24, 26), "white").save(path)
    one = image([(0, 0.9)], [(1, 0.8)], scores=[[0.6, 0.2, 0.1], [0.1, 0.9, 0.2]], path=path)
    _, examples = gathered(one, example_count=1)
    frame = priors(examples, ["Student"])
    figure = plot_objects(examples, frame, looks("Student"), CLASSES)
    teacher, student, scores = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["Teacher", "Student", "circle"]
    assert [text.get_text() for text in teacher.texts] == [
        "1",
        "2",
        "3",
        "1: 0.60*\n2: 0.20\n3: 0.10",
    ]
    assert student.texts[-1].get_text() == "2: 0.90*\n3: 0.20\n1: 0.10"
    assert len(student.patches) == 4
    runs, key = figure.legends
    assert [text.get_text() for text in runs.get_texts()] == ["Teacher", "Student"]
    assert [text.get_text() for text in key.get_texts()] == [
        "object", "best prior of the run", "second", "third"
    ]  # fmt: skip
    assert "* prior of the final box" in key.get_title().get_text()
    assert [line.get_ydata().tolist() for line in scores.lines] == [
        pytest.approx([0.6, 0.2, 0.1]), pytest.approx([0.1, 0.9, 0.2])
    ]  # fmt: skip


def test_a_figure_without_objects_states_the_reason():
    (text,) = plot_objects([], pd.DataFrame(), {}, CLASSES).texts
    assert text.get_text() == "no object has two positive priors"


# --- Runs ----------------------------------------------------------------------------------


def test_a_run_agrees_with_itself_and_not_with_another(study):
    teacher, students = write_runs(study(["rm"]))
    assert len(students) == 2
    images = list(ranked_images(teacher, [teacher, *students], 9, 0, "classification"))
    names = list("abcdefgh")
    lines, examples = gather(images, ["same", "a", "b"], names, 0.75, 2, "disagreement", 0)
    assert len(images) == 2 and len(examples) == 2
    frame = summary(lines, 0)
    same = frame[frame["group"] == "all"].set_index("run").loc["same"]
    assert (same["kl"], same["top1"]) == (0, 1) and same["rho"] == pytest.approx(1)
    assert math.isnan(same["agreement"]) or same["agreement"] == 1
    assert frame[frame["group"] == "all"].set_index("run").loc["a", "kl"] > 0
    assert describe(frame, lines).startswith(f"Images: 2; objects: {len(lines) // 3}; ")


def test_the_analysis_writes_what_it_declares(study, tmp_path):
    teacher, students = write_runs(study(["rm"]))
    written = analyze(RankAgreement(images=2), [teacher, *students], tmp_path / "out", Library())
    assert {path.name for path in written} == set(RankAgreement.files())
    lines = pd.read_csv(tmp_path / "out" / "rank_agreement.csv")
    assert lines["run"].unique().tolist() == ["Student", "RM"]
    assert "where the KL of Student is largest" in (tmp_path / "out" / "caption.md").read_text()


def test_priors_that_differ_from_the_teachers_are_errors(study):
    teacher, students = write_runs(study(["rm"]))
    config = read_json(students[0] / "config.json")
    config["model"]["bbox_head"]["anchor_generator"]["octave_base_scale"] = 8
    write_json(students[0] / "config.json", config)
    with pytest.raises(UserError, match="its priors are not those of its teacher"):
        list(ranked_images(teacher, students[:1], 1, 0, "classification"))


def test_detectors_without_ranked_priors_are_errors(study):
    teacher, students = write_runs(study(["chen"], detectors=("faster_rcnn",)))
    with pytest.raises(UserError, match=r"'faster_rcnn' does not offer rankings.*retinanet"):
        check(frozenset({"rankings"}), groups(*students), teacher, Library(CONFIGS))
