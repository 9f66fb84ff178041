"""Overview of teacher and student: the selected image, its maps and boxes, and the picture."""

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.figures.analyze import analyze
from analysis.figures.map_gaps import Gap
from analysis.figures.overview.alt_text import alt_texts
from analysis.figures.overview.analysis import Overview, caption
from analysis.figures.overview.compute import (
    OverviewImage,
    cells,
    compare,
    highest_probability,
    in_input,
    mmdet_id,
    overview_boxes,
    sample_of,
    select,
)
from analysis.figures.overview.plot import plot, plot_figures
from analysis.matching.confident import count
from kd.common.errors import UserError
from kd.config.library import Library
from kd.observers import observe
from tests.analysis.confident_scene import BOX, FAR, OTHER, SCENE, SIDE, outcome_of, truth
from tests.analysis.fakes import write_detections
from tests.analysis.figures.legibility import faults
from tests.analysis.random_runs import write_runs


def frame_of(*outcomes):
    return compare(*map(count, outcomes))


def both(ground_truth, teacher, student):
    """Return the outcomes of two runs with detections (image, label, box, score)."""
    detections = {"Teacher": teacher, "Student": student}
    return [outcome_of(ground_truth, *rows, run=run) for run, rows in detections.items()]


# --- Selection by a rule -------------------------------------------------------------------


def test_in_the_image_the_student_misses_most_of_what_the_teacher_detects():
    """In image 1 the student misses two objects that the teacher detects; in image 2 one."""
    teacher = [(1, 0, BOX, 0.9), (1, 1, OTHER, 0.9), (2, 0, BOX, 0.9)]
    frame = frame_of(*both(SCENE, teacher, []))
    assert frame.drop_duplicates("image")["fewer"].tolist() == [2, 1, 0]
    assert select(frame, "missed", 0) == [1]
    assert select(frame_of(*both(SCENE, teacher, teacher[:2])), "missed", 0) == [2]


def test_equal_images_are_ordered_by_the_difference_of_f1_then_by_id():
    """The student misses one of two objects in image 1, and the only one in image 2."""
    objects = [(1, 0, BOX, 0.9), (1, 1, OTHER, 0.9), (2, 0, BOX, 0.9)]
    frame = frame_of(*both(SCENE, objects, objects[:1]))
    assert frame.drop_duplicates("image")["fewer"].tolist()[:2] == [1, 1]
    assert select(frame, "missed", 0) == [2]
    assert select(frame_of(*both(SCENE, objects, objects)), "missed", 0) == [1]


def test_images_without_objects_are_not_selected():
    frame = frame_of(*both(SCENE, [], [(3, 0, BOX, 0.9)] * 9))
    assert select(frame, "missed", 0) == [1]
    assert {select(frame, "random", seed)[0] for seed in range(20)} == {1, 2}
    assert select(frame_of(*both(truth(), [], [])), "missed", 0) == []


def test_objects_have_their_detectors():
    scene = truth((1, 0, BOX), (1, 1, OTHER), (1, 0, FAR), (2, 0, BOX), images=2)
    teacher, student = [(1, 0, BOX, 0.9), (1, 1, OTHER, 0.9)], [(1, 0, BOX, 0.9), (1, 0, FAR, 0.9)]
    frame = overview_boxes(both(scene, teacher, student), [1])
    objects = frame[frame["kind"] == "object"]
    assert objects["detected"].tolist() == ["both", "teacher", "student"]
    assert (frame.loc[frame["kind"] != "object", "detected"] == "").all()
    assert overview_boxes(both(scene, [], []), [2])["detected"].tolist() == ["none", "", ""]


class FakeDataset(list):
    """Samples by their position, with mmdet's id of each."""

    def get_data_info(self, index):
        return {"img_id": self[index]}


def test_an_image_is_located_by_its_name_in_voc_and_by_its_id_in_coco():
    coco = {"images": [{"id": 7}, {"id": 9}]}
    voc = {"images": [{"id": 1, "img_id": "000007"}, {"id": 2, "img_id": "000009"}]}
    assert mmdet_id(coco, 9) == 9 and mmdet_id(voc, 2) == "000009"
    assert sample_of(FakeDataset(["000007", "000009"]), "000009") == "000009"


# --- Maps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["retinanet", "gfl", "fcos", "ssd300"])
def test_dense_predictions_are_the_highest_probabilities_of_a_cell(build, batch, family):
    with torch.no_grad():
        output = observe(build(family).eval(), batch(), frozen=True)
        maps = [highest_probability(output, level) for level in range(len(output.neck))]
    for level, values in enumerate(maps):
        channels = output.probability_maps[level][0]
        if output.softmax:  # the last class of each anchor is the background
            channels = channels.unflatten(0, (-1, output.head.cls_out_channels))[:, :-1].flatten(
                0, 1
            )
        torch.testing.assert_close(values, channels.amax(0))


def overview_of(scale=(1.0, 1.0)):
    """Return an image of 64 x 64 pixels with maps of 8 x 8 cells."""
    rising = np.arange(64.0).reshape(8, 8) / 64
    gap = Gap(8, 0.1 * rising, 3 * rising)
    pixels = np.full((SIDE, SIDE, 3), 0.6)
    return OverviewImage(pixels, scale, [rising, 2 * rising], [rising, rising / 2], gap)


def test_cells_have_the_values_of_all_maps():
    frame = cells(overview_of())
    assert len(frame) == 64 and frame.loc[9, ["stride", "y", "x"]].tolist() == [8, 1, 1]
    values = frame.loc[9].tolist()[3:]
    assert values == pytest.approx([9 / 64, 18 / 64, 9 / 64, 4.5 / 64, 27 / 64, 0.9 / 64])
    assert cells(None).columns.tolist() == frame.columns.tolist() and cells(None).empty


def test_boxes_are_scaled_to_the_networks_input():
    frame = pd.DataFrame([[1.0, 2, 3, 4]], columns=["left", "top", "right", "bottom"])
    assert in_input(frame, (2.0, 0.5)).to_numpy().tolist() == [[2, 1, 6, 2]]


# --- Pictures and texts --------------------------------------------------------------------


def tables_of(teacher, student, scene=SCENE):
    outcomes = both(scene, teacher, student)
    frame = frame_of(*outcomes)
    selected = select(frame, "missed", 0)
    frame = frame.assign(file="1.png", chosen=frame["image"].isin(selected))
    image = overview_of() if selected else None
    boxes = overview_boxes(outcomes, selected)
    return {"overview": frame, "overview-boxes": boxes, "overview-cells": cells(image)}


def test_the_picture_has_three_rows_on_one_image_with_shared_scales():
    tables = tables_of([(1, 0, BOX, 0.9), (1, 1, OTHER, 0.8)], [(1, 0, BOX, 0.7)])
    frame = tables["overview"]
    figure = plot(frame[frame["chosen"]], tables["overview-boxes"], overview_of())
    grid = np.reshape(figure.axes[:15], (5, 3))
    views = {(axes.get_xlim(), axes.get_ylim()) for axes in grid[[0, 1, 3]].flat}
    assert views == {((-0.5, 63.5), (63.5, -0.5))}
    teacher, student, difference = (axes.images[1].get_clim() for axes in grid[[0, 1, 3], 0])
    assert teacher == student == (0, 2 * 63 / 64) and difference == (0, 3 * 63 / 64)
    assert [axes.get_title() for axes in grid[:2, 2]] == [
        "F1 1.00: 0 wrong, 0 missed",
        "F1 0.67: 0 wrong, 1 missed",
    ]
    assert [box.get_linestyle() for box in grid[3, 2].patches] == ["-", "--"]
    assert [text.get_text() for text in grid[4, 2].get_legend().get_texts()] == [
        "both", "teacher only", "student only", "neither"
    ]  # fmt: skip
    assert set(faults(figure)) == {"panel '' is empty"}  # they hold color scales and keys


def test_texts_have_the_counts_and_the_rule():
    tables = tables_of([(1, 0, BOX, 0.9), (1, 1, OTHER, 0.8)], [(1, 0, BOX, 0.7)])
    text = caption(tables, [0.5, 0.4], "missed")
    assert text.startswith("Image 1.png: of 2 images with objects, the one where Student detects ")
    assert "Student 0.67 (detections from score 0.40)" in text
    alternative = alt_texts(tables)["overview"]
    assert "Student: correct detections 1, wrong detections 0, missed objects 1." in alternative
    counts = "both detect: 1; only the teacher: 1; only the student: 0; neither: 0."
    assert f"Number of objects that {counts}" in alternative


def test_runs_without_detections_have_a_picture():
    tables = tables_of([], [])
    frame = tables["overview"]
    figure = plot(frame[frame["chosen"]], tables["overview-boxes"], overview_of())
    assert figure.axes[2].get_title() == "F1 0.00: 0 wrong, 2 missed"
    assert [box.get_linestyle() for box in figure.axes[11].patches] == [":", ":"]


def test_without_objects_the_picture_is_a_sentence():
    tables = tables_of([(1, 0, BOX, 0.9)], [], scene=truth())
    (text,) = plot_figures(tables, None)["overview"].texts
    assert text.get_text() == "no image has an object"
    assert caption(tables, [0.5, 0.5], "missed").startswith("No image of the test split has")
    assert alt_texts(tables)["overview"] == "No image could be selected."


# --- Runs ----------------------------------------------------------------------------------


def test_the_analysis_writes_what_it_declares(study, tmp_path):
    teacher, students = write_runs(study(["pfi"]))
    for directory in (teacher, *students):
        write_detections(directory, [(1, 0, [4, 4, 20, 20], 0.9)])
    written = analyze(Overview(), [teacher, *students], tmp_path / "out", Library())
    assert {path.name for path in written} == set(Overview.files())
    frame = pd.read_csv(tmp_path / "out" / "overview.csv")
    assert frame["run"].unique().tolist() == ["Teacher", "Student"]
    assert frame["chosen"].sum() == 2
    assert len(pd.read_csv(tmp_path / "out" / "overview-cells.csv")) == 64
    with pytest.raises(UserError, match="'level': 9, but the neck has levels 0 to 4"):
        analyze(Overview(level=9), [teacher, *students], tmp_path / "none", Library())
