"""Final boxes beside their priors: objects selected by a rule, files, pictures, and messages."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba
from mmengine.structures import InstanceData

from analysis.figures.analyze import analyze
from analysis.figures.final_anchors.alt_text import alt_texts
from analysis.figures.final_anchors.analysis import FinalAnchors, caption
from analysis.figures.final_anchors.compute import (
    ANCHOR,
    BOX,
    AnchoredImage,
    _image,
    anchored_images,
    compute_tables,
    select,
)
from analysis.figures.final_anchors.plot import plot, region_of
from analysis.figures.final_boxes import ObjectBoxes, PriorLevel
from analysis.plotting.overlay import DETECTION_COLOR, PRIOR_COLOR, TRUTH_COLOR
from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.config.library import Library
from kd.observers import Batch, observe
from tests.analysis.figures.legibility import faults
from tests.analysis.random_runs import write_runs

CLASSES = ["circle", "square"]
ALL = ("easy", "hard", "corrected", "random")
NONE = (-1, math.nan)
RUNS = ["Student", "RM"]


def image(teacher, *students, point=False):
    """Return an image with an object for each entry (prior, IoU) of ``teacher``."""
    count = len(teacher)
    corners = torch.tensor([[2.0, 2, 22, 22]]).repeat(count, 1)

    def boxes(entries):
        prior, iou = (torch.tensor(values) for values in zip(*entries, strict=True))
        missed = (prior < 0)[:, None]
        final = (corners + 1).masked_fill(missed, math.nan)
        return ObjectBoxes(prior, iou.float(), final, iou.float() / 2)

    runs = [boxes(entries) for entries in (teacher, *students)]
    anchor = torch.tensor([[5.0, 5, 5, 5]] if point else [[0.0, 4, 30, 34]]).repeat(count, 1)
    anchors = [anchor.masked_fill((run.prior < 0)[:, None], math.nan) for run in runs]
    levels = [PriorLevel(1, 2, 2)]
    return AnchoredImage("images/1.png", corners, torch.arange(count) % 2, levels, runs, anchors)


def tables_of(*images, runs=tuple(RUNS), choose=ALL, number=2, seed=0):
    return compute_tables(images, runs, CLASSES, choose, number, 0, seed)[0]


# --- Selection by a rule -------------------------------------------------------------------


def selected(*images, **settings):
    frame = tables_of(*images)["final_anchors"]
    return select(frame, **({"selections": ALL, "number": 2, "score": 0, "seed": 0} | settings))


def test_an_easy_object_has_the_teachers_prior_and_two_good_boxes():
    teacher = [(0, 0.9), (1, 0.8), (2, 0.95), NONE]
    student = [(0, 0.6), (1, 0.7), (3, 0.95), (1, 0.9)]
    objects = selected(
        image(teacher, student, student), image(teacher[:1], [(0, 0.8)], student[:1])
    )
    assert objects["easy"] == [(1, 0), (0, 1)]  # the worse boxes have 0.8, and 0.7 before 0.6


def test_a_hard_object_has_another_prior_and_a_worse_box():
    teacher = [(0, 0.9), (1, 0.8), (2, 0.7), (3, 0.9)]
    images = [
        image(teacher, [(1, 0.85), (1, 0.5), (0, 0.75), NONE], [NONE] * 4),
        image(teacher[:2], [(1, 0.6), (0, 0.7)], [NONE] * 2),
    ]
    objects = selected(*images, selections=("hard",))
    assert objects == {"hard": [(1, 0), (0, 0)]}  # they lose 0.3 and 0.05


def test_a_corrected_object_has_the_teachers_prior_after_distillation():
    teacher = [(0, 0.9)] * 4
    student = [(1, 0.6), (1, 0.7), (0, 0.5), (1, 0.6)]
    last = [(2, 0.9), (0, 0.8), (0, 0.9), (0, 0.5)]
    objects = selected(image(teacher, student, last), selections=("corrected",))
    assert objects == {"corrected": [(0, 1)]}


def test_equal_objects_are_in_the_order_of_images_and_an_image_is_used_once():
    same = image([(0, 0.9)] * 2, [(0, 0.8)] * 2, [(0, 0.8)] * 2)
    objects = selected(same, same, same, selections=("easy", "random"), number=2)
    assert objects["easy"] == [(0, 0), (1, 0)]
    assert [number for number, _ in objects["random"]] == [2]
    orders = {tuple(selected(same, same, same, seed=s)["random"]) for s in range(9)}
    assert len(orders) > 1 and selected(same, same, seed=3) == selected(same, same, seed=3)


def test_boxes_of_lower_scores_are_not_compared():
    """The score of a box is half its IoU."""
    objects = selected(
        image([(0, 0.9), (0, 0.8)], [(0, 0.8), (0, 0.6)], [NONE] * 2),
        image([(0, 0.9), (0, 0.9)], [(1, 0.65), (1, 0.6)], [NONE] * 2),
        selections=("easy", "hard"),
        score=0.35,
    )
    assert objects == {"easy": [(0, 0)], "hard": []}


def test_the_table_marks_selected_objects_and_names_priors():
    frame = tables_of(image([(0, 0.9), NONE], [(0, 0.8), (2, 0.7)], [(1, 0.6), NONE]))[
        "final_anchors"
    ]
    assert frame["run"].tolist() == ["Teacher"] * 2 + ["Student"] * 2 + ["RM"] * 2
    assert frame["prior"].tolist() == ["0:0:0:0", "", "0:0:0:0", "0:0:1:0", "0:0:0:1", ""]
    assert frame["same"].tolist() == pytest.approx(
        [1, math.nan, 1, math.nan, 0, math.nan], nan_ok=True
    )
    assert frame["chosen"].tolist() == ["easy", ""] * 3
    assert frame.loc[1, [*BOX, *ANCHOR]].isna().all()
    assert frame.loc[4, BOX].tolist() == [3, 3, 23, 23]


# --- Texts ---------------------------------------------------------------------------------


def test_caption_and_alternative_text_have_the_rules_and_numbers():
    tables = tables_of(image([(0, 0.9)], [(1, 0.6)], [(0, 0.8)]), choose=("easy", "corrected"))
    text = caption(tables, ("easy", "corrected"))
    assert "Student 0 of 1, RM 1 of 1" in text
    assert "which has the teacher's prior, gains most IoU over Student" in text
    assert text.endswith("No object satisfies the rule of easy.")
    alternative = alt_texts(tables, ("easy", "corrected"))["final_anchors"]
    assert (
        "A corrected object (circle): Teacher IoU 0.90; Student IoU 0.60, another prior; "
        "RM IoU 0.80, the teacher's prior." in alternative
    )
    assert alternative.endswith("No object is easy.")


# --- Pictures ------------------------------------------------------------------------------

PIXELS = {0: np.full((26, 40, 3), 0.5), 1: np.full((26, 40, 3), 0.2)}


def panels(figure):
    return [axes for axes in figure.axes if axes.get_title()]


def test_all_panels_of_an_object_show_the_same_region_and_the_runs_boxes():
    one = image([(0, 0.9)], [(1, 0.6)], [(0, 0.8)])
    frame = tables_of(one, choose=("hard",))["final_anchors"]
    figure = plot(frame, PIXELS, ("hard",))
    assert [axes.get_title() for axes in panels(figure)] == ["Teacher", *RUNS]
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels(figure)}) == 1
    for axes in panels(figure):
        boxes = axes.patches
        assert [box.get_edgecolor() for box in boxes] == [
            to_rgba(color) for color in (TRUTH_COLOR, PRIOR_COLOR, DETECTION_COLOR)
        ]
        assert [box.get_linestyle() for box in boxes] == ["-", "--", "-"]
    assert [axes.texts[-1].get_text() for axes in panels(figure)] == [
        "IoU 0.90, score 0.45",
        "IoU 0.60, score 0.30\nanother prior",
        "IoU 0.80, score 0.40\nthe teacher's prior",
    ]
    assert faults(figure) == []


def test_the_region_is_a_square_with_all_boxes():
    frame = tables_of(image([(0, 0.9)], [NONE], [(1, 0.8)]))["final_anchors"]
    region = region_of(frame)
    assert region.tolist() == pytest.approx([15 - 18.56, 18 - 18.56, 15 + 18.56, 18 + 18.56])


def test_a_run_without_a_box_states_this():
    frame = tables_of(image([(0, 0.9)], [NONE], [(0, 0.8)]), choose=("random",))["final_anchors"]
    student = panels(plot(frame, PIXELS, ("random",)))[1]
    assert [text.get_text() for text in student.texts] == ["no final box"]
    assert len(student.patches) == 1


def test_a_selection_without_an_object_is_a_sentence():
    frame = tables_of(image([NONE], [NONE], [NONE]), choose=("easy", "hard"))["final_anchors"]
    figure = plot(frame, {}, ("easy", "hard"))
    texts = [text.get_text() for part in figure.subfigs for text in part.texts]
    assert texts == [f"No object is {name}; the caption has the rule." for name in ("easy", "hard")]
    assert "of the objects with a final box in both: Student 0 of 0" in caption(
        {"final_anchors": frame}, ("easy", "hard")
    )


def test_the_prior_of_a_point_is_a_cross_and_two_runs_are_drawn_in_pairs():
    one = image([(0, 0.9)], [(0, 0.8)], point=True)
    frame = tables_of(one, one, one, runs=["Student"], choose=("easy",), number=3)["final_anchors"]
    figure = plot(frame, PIXELS | {2: PIXELS[0]}, ("easy",))
    assert len(panels(figure)) == 6 and len(figure.subfigs) == 3  # the key, and two lines
    assert [line.get_marker() for line in panels(figure)[0].lines] == ["+"]
    assert len(panels(figure)[0].patches) == 2


# --- Runs ----------------------------------------------------------------------------------


class FakeRun:
    """A detector, and a batch in place of every sample."""

    directory = "run"

    def __init__(self, detector, batch):
        self.detector = detector
        self._batch = batch

    def batch(self, sample):
        return self._batch


@pytest.mark.parametrize("family", ["retinanet", "gfl", "fcos"])
def test_a_final_box_is_the_decoded_box_of_its_prior(detector, batch, family):
    """Objects are detections, so that each one has a final box: the decoded box of its prior."""
    model, data = detector(family), batch()
    with torch.no_grad():
        detections = model.predict(data.inputs, data.samples, rescale=False)[0].pred_instances
    sample = data.samples[0]
    sample.gt_instances = InstanceData(bboxes=detections.bboxes[:9], labels=detections.labels[:9])
    sample.set_metainfo({"scale_factor": (0.5, 2.0), "img_path": "1.png"})
    run = FakeRun(model, Batch(data.inputs, data.samples))
    with torch.no_grad():
        anchored = _image([run, run], {})
        observation = observe(model, data, frozen=True)
        final = anchored.runs[0]
        decoded = observation.boxes(torch.zeros_like(final.prior), final.prior)
    assert len(final.prior) == 9 and (final.prior >= 0).all()
    height, width = sample.metainfo["img_shape"]
    scale = torch.tensor([0.5, 2.0] * 2)
    decoded = torch.minimum(decoded.clamp(min=0), torch.tensor([width, height] * 2)) / scale
    torch.testing.assert_close(decoded, final.boxes, rtol=1e-5, atol=1e-4)
    assert torch.equal(final.boxes, anchored.boxes) and (final.iou > 0.999).all()
    assert torch.equal(observation.priors[final.prior] / scale, anchored.anchors[0])


def test_the_analysis_writes_what_it_declares(study, tmp_path):
    teacher, students = write_runs(study(["rm"]))
    settings = FinalAnchors(images=2, choose=ALL)
    written = analyze(settings, [teacher, *students], tmp_path / "out", Library())
    assert {path.name for path in written} == set(FinalAnchors.files())
    frame = pd.read_csv(tmp_path / "out" / "final_anchors.csv")
    assert frame["run"].unique().tolist() == ["Teacher", "Student", "RM"]
    assert "random, objects at random" in (tmp_path / "out" / "caption.md").read_text()
    with pytest.raises(UserError, match="'corrected' compares two students"):
        analyze(settings, [teacher, students[1]], tmp_path / "none", Library())


def test_priors_of_another_detector_are_errors(study):
    teacher, students = write_runs(study(["rm"]))
    config = read_json(students[0] / "config.json")
    config["model"]["bbox_head"]["anchor_generator"]["octave_base_scale"] = 8
    write_json(students[0] / "config.json", config)
    with pytest.raises(UserError, match="its priors are not those of its teacher"):
        next(anchored_images(teacher, students[:1], 1, 0))
