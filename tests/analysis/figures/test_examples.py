"""Examples: F1 of images, their selection by a rule, and the picture."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from analysis.figures.examples.analysis import Examples
from analysis.figures.examples.compute import (
    compare,
    load,
    select,
)
from analysis.figures.examples.plot import plot
from analysis.matching.confident import boxes
from analysis.plotting.detections import CORNERS, MOST_WRONG, selected_boxes
from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.config.compose import split_config
from kd.config.library import Library
from tests.analysis.confident_scene import (
    BOX,
    FAR,
    OTHER,
    SCENE,
    SIDE,
    outcome_of,
)
from tests.analysis.fakes import groups, write_detections, write_run
from tests.analysis.figures.legibility import faults


def test_an_image_without_objects_has_no_f1_and_is_only_selected_at_random():
    base, better = outcome_of(SCENE, (3, 0, BOX, 0.9), run="a"), outcome_of(SCENE, run="b")
    frame = compare(base, [better])
    assert frame.loc[frame["image"] == 3, ["f1", "gain"]].isna().all(axis=None)
    assert frame.loc[frame["image"] == 3, "fewer"].tolist() == [1, 1]
    images = select(frame, ("gain", "loss", "random"), 3, 0)
    assert (images["gain"], images["loss"], sorted(images["random"])) == ([], [], [1, 2, 3])


def test_gains_are_means_over_the_distilled():
    base = outcome_of(SCENE, (1, 0, BOX, 0.9), run="baseline")
    better = outcome_of(SCENE, (1, 0, BOX, 0.9), (2, 0, BOX, 0.9), run="a")
    worse = outcome_of(SCENE, run="b")
    frame = compare(base, [better, worse]).drop_duplicates("image").set_index("image")
    assert frame.loc[1, "gain"] == pytest.approx((0 - 2 / 3) / 2)
    assert frame.loc[2, ["gain", "fewer"]].tolist() == [0.5, 0.5]
    assert np.isnan(frame.loc[3, "gain"])


def gains(values, fewer=None):
    frame = pd.DataFrame({"image": range(1, len(values) + 1), "gain": values})
    return frame.assign(fewer=fewer or 0)


def test_the_largest_gains_and_losses_are_selected():
    images = select(gains([0.1, -0.5, 0.3, 0.0, -0.1, 0.2]), ("gain", "loss", "random"), 2, 0)
    assert images["gain"] == [3, 6]
    assert images["loss"] == [2, 5]
    assert set(images["random"]) == {1, 4}


def test_equal_gains_are_ordered_by_errors_avoided_then_id():
    frame = gains([0.5, 0.5, 0.5, -0.5, -0.5], [1, 2, 2, -1, -3])
    assert select(frame, ("gain",), 3, 0)["gain"] == [2, 3, 1]
    assert select(frame, ("loss",), 2, 0)["loss"] == [5, 4]


def test_images_that_do_not_gain_are_no_gains():
    images = select(gains([0.0, 0.0, -0.1]), ("random", "gain", "loss"), 5, 0)
    assert list(images) == ["gain", "loss", "random"]
    assert images["gain"] == []
    assert (images["loss"], sorted(images["random"])) == ([3], [1, 2])


def test_random_images_depend_only_on_the_seed():
    frame = gains([0.0] * 50)
    first, same, other = (select(frame, ("random",), 5, s)["random"] for s in (1, 1, 2))
    assert first == same != other
    assert select(frame.sample(frac=1, random_state=0), ("random",), 5, 1)["random"] == first


def test_the_boxes_are_those_of_the_selected_images():
    outcome = outcome_of(SCENE, (1, 0, BOX, 0.9), (1, 0, FAR, 0.75), (2, 0, BOX, 0.9), run="a")
    frame = boxes([outcome], [1])
    rows = frame[["run", "kind", "class", *CORNERS]].to_numpy().tolist()
    assert rows == [
        ["", "object", "cat", 4, 4, 24, 24],
        ["", "object", "dog", 36, 4, 56, 24],
        ["a", "right", "cat", 4, 4, 24, 24],
        ["a", "wrong", "cat", 30, 40, 50, 60],
        ["a", "missed", "dog", 36, 4, 56, 24],
    ]
    assert frame["score"].dropna().tolist() == [0.9, 0.75]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a function that writes runs of a small data set in the root of a project."""
    (tmp_path / "configs/datasets").mkdir(parents=True)
    coco = {**SCENE, "categories": SCENE["categories"]}
    entry = {"annotations": "test.json", "images": "test"}
    dataset = {"format": "coco", "root": "data", "train": entry, "test": entry}
    settings = {"classes": ["cat", "dog"], "image_size": [SIDE, SIDE]}
    (tmp_path / "configs/datasets/pets.yaml").write_text(yaml.safe_dump(dataset | settings))
    write_json(tmp_path / "data/test.json", coco)
    (tmp_path / "data/test").mkdir()
    for image in coco["images"]:
        Image.new("RGB", (SIDE, SIDE), (90, 120, 90)).save(
            tmp_path / "data/test" / image["file_name"]
        )

    def make(name, detections, methods=None, seed=0):
        run = write_run(tmp_path / name, methods, seed, dataset="pets")
        split = split_config(Library().dataset("pets", "test"), "test", ["cat", "dog"], [])
        config = read_json(run / "config.json") | {"test_dataloader": {"dataset": split}}
        write_json(run / "config.json", config)
        write_detections(run, detections)
        return run

    library = Library()
    for name in ("configs/detectors", "configs/backbones", "configs/presets"):
        (tmp_path / name).symlink_to((library.root / name.rpartition("/")[2]).resolve())
    monkeypatch.chdir(tmp_path)
    return make


def results_of(*runs, **settings):
    return Examples(**settings).run(groups(*runs), Library())


@pytest.fixture
def pairs(project):
    return (
        project("alone", [(1, 0, BOX, 0.9), (2, 1, OTHER, 0.9)]),
        project("rm", [(1, 0, BOX, 0.9), (2, 0, BOX, 0.9)], {"rm": {"weight": 1.0}}),
    )


def test_the_figure_has_a_row_for_each_image_and_every_box(pairs):
    results = results_of(*pairs, score=0.5, number=2)
    figure, frame = results.pictures["examples"], results.tables["examples"]
    assert len(figure.axes) == 3 * 3
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        "2.png", "F1 0.00: 1 wrong, 1 missed", "F1 1.00: 0 wrong, 0 missed",
    ]  # fmt: skip
    titles = {axes.get_title() for axes in figure.axes[3:]}
    one_error = "F1 0.67: 0 wrong, 1 missed"
    assert titles == {"1.png", one_error, "3.png", "no object: 0 wrong, 0 missed"}
    (row_title,) = (text for text in figure.axes[0].texts if text.get_rotation() == 90)
    assert row_title.get_text() == "Largest gain\n(+1.00)"
    wrong, missed = sorted(figure.axes[1].patches, key=lambda patch: patch.get_linestyle())
    assert (wrong.get_linestyle(), wrong.get_xy()) == ("--", (35.5, 3.5))
    assert (missed.get_linestyle(), missed.get_xy()) == (":", (3.5, 3.5))
    (right,) = figure.axes[2].patches
    assert (right.get_linestyle(), right.get_width()) == ("-", 20)
    assert figure.axes[2].texts[0].get_text() == "cat 0.90"
    assert len(results.tables["examples-boxes"]) == 3 + 2 + 2 + 3
    assert sorted(frame["chosen"]) == ["gain"] * 2 + ["random"] * 4
    assert "Of 2 images with objects, 1 gain and 0 lose" in results.caption
    assert "No image to show for 'loss'" in results.caption


def test_selections_are_settings(pairs):
    assert len(results_of(*pairs, choose=["gain"], number=1).pictures["examples"].axes) == 3
    assert len(results_of(*pairs, choose=["loss"]).pictures["examples"].texts) == 1
    with pytest.raises(UserError, match="key 'choose"):
        Examples.parse({"choose": ["best"]}, "settings")


def test_the_same_runs_give_the_same_tables(pairs):
    first, second = (results_of(*pairs).tables for _ in range(2))
    assert all(first[name].equals(second[name]) for name in first)


def test_drawing_from_the_csv_gives_the_same_boxes(pairs, tmp_path):
    results = results_of(*pairs)
    tables = {}
    for name, frame in results.tables.items():
        frame.to_csv(tmp_path / name, index=False)
        tables[name] = pd.read_csv(tmp_path / name).fillna({"run": "", "chosen": ""})
    pictures = {image: np.zeros((SIDE, SIDE, 3)) for image in (1, 2, 3)}
    redrawn = plot(tables["examples"], tables["examples-boxes"], pictures)
    for axes, same in zip(results.pictures["examples"].axes, redrawn.axes, strict=True):
        assert [p.get_xy() for p in axes.patches] == [p.get_xy() for p in same.patches]
        assert [t.get_text() for t in axes.texts] == [t.get_text() for t in same.texts]


def test_names_do_not_overlap(project):
    rng = np.random.default_rng(0)
    detections = [(1, 0, [*rng.uniform(0, 40, 2), 15, 15], 0.9) for _ in range(60)]
    runs = project("alone", detections), project("rm", [(1, 0, BOX, 0.9)], {"rm": {"weight": 1.0}})
    figure = results_of(*runs, score=0.5, choose=["gain"], number=1).pictures["examples"]
    figure.draw_without_rendering()
    axes = figure.axes[1]
    areas = [text.get_window_extent() for text in axes.texts if "cat" in text.get_text()]
    assert 1 < len(areas) <= MOST_WRONG + 2
    assert not any(a.overlaps(b) for n, a in enumerate(areas) for b in areas[:n])
    assert len(axes.patches) == MOST_WRONG + 2  # and the missed objects
    assert axes.get_title() == "F1 0.00: 60 wrong, 2 missed"


def test_the_wrong_detections_with_the_highest_scores_are_drawn():
    kinds = ["wrong"] * (MOST_WRONG + 2) + ["right", "missed"]
    boxes = pd.DataFrame({"kind": kinds, "score": [*range(MOST_WRONG + 2), 0.1, np.nan]})
    assert selected_boxes(boxes)["score"].tolist()[:-1] == [*range(2, MOST_WRONG + 2), 0.1]


def test_the_default_is_one_image_of_each_selection(pairs):
    results = results_of(*pairs, score=0.5)
    figure = results.pictures["examples"]
    assert len(figure.axes) == 2 * 3  # no image loses
    assert not faults(figure)
    assert (
        "an image with the largest gain (F1: Student 0.00, RM 1.00)"
        in (results.alt_texts["examples"])
    )


def test_the_caption_states_how_many_students_are_omitted(project):
    names = ("rm", "pfi", "fitnets", "fgfi", "gid", "fkd")
    runs = [project(name, [(1, 0, BOX, 0.9)], {name: {"weight": 1.0}}) for name in names]
    results = results_of(project("alone", []), *runs, number=1)
    assert len(results.tables["examples"]["run"].unique()) == 5
    assert "2 are omitted" in results.caption


def test_without_any_detection_or_object(project):
    runs = project("alone", []), project("rm", [], {"rm": {"weight": 1.0}})
    results = results_of(*runs)
    assert "0 gain and 0 lose" in results.caption
    assert results.tables["examples"]["f1"].dropna().tolist() == [0] * 4


def test_examples_need_a_baseline_and_a_distilled_run(pairs, project):
    with pytest.raises(UserError, match="no run of a distilled student: give the directory"):
        results_of(pairs[0])
    with pytest.raises(UserError, match="no run of a student trained without distillation"):
        results_of(pairs[1])
    with pytest.raises(UserError, match="several students without distillation"):
        results_of(*pairs, write_run(project("other", []), student="r34", dataset="pets"))


def test_an_unreadable_image_is_named(pairs, tmp_path):
    (tmp_path / "data/test/2.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2\.png"):
        load(tmp_path / "data/test/2.png")
    with pytest.raises(UserError, match=r"absent\.png: the image cannot be read"):
        load(tmp_path / "absent.png")
