"""COCO's error breakdown: against the analysis of the COCO toolbox, by hand, and the pictures."""

import contextlib
import copy
import importlib.util
import io
from pathlib import Path

import mmdet
import numpy as np
import pandas as pd
import pytest

from analysis.figures.coco_errors import plot as plots
from analysis.figures.coco_errors.analysis import CocoErrors
from analysis.figures.coco_errors.compute import (
    BG,
    C50,
    C75,
    CURVES,
    FN,
    LOC,
    OTH,
    OVERALL,
    PARTS,
    SIM,
    breakdown,
    compute_tables,
    count_objects,
    curve_lines,
    drawn_categories,
    similar,
    summary,
    with_mean,
)
from analysis.plotting.style import look, row_looks
from kd.common.errors import UserError
from kd.config.library import Library
from kd.data.readers import GroundTruth
from kd.evaluation.matching import AREAS, pair
from tests.analysis.fakes import groups, write_detections, write_run
from tests.analysis.figures.legibility import faults
from tests.support.scenes import coco, detection, random_input, reference

SQUARE = (0, 0, 40, 40)
AWAY = (300, 300, 40, 40)
TOOL = Path(mmdet.__file__).parent / ".mim/tools/analysis_tools/coco_error_analysis.py"


def with_supercategories(truth, *groups):
    """Set the supercategories of the categories, the last one for all that remain."""
    for number, category in enumerate(truth["categories"]):
        category["supercategory"] = groups[min(number, len(groups) - 1)]
    return truth


def breakdown_of(truth, detections):
    return breakdown(pair(truth, detections), similar(truth["categories"]), list(AREAS))


def standard(truth, detections):
    """Return the curves by definition: one class at a time, with other classes as crowds."""
    names = [category["name"] for category in truth["categories"]]
    strict = reference(truth, detections, names, [0.1, 0.5, 0.75]).eval["precision"]
    curves = np.full((len(CURVES), len(AREAS), len(names), 101), -1.0)
    for number, category in enumerate(truth["categories"]):
        class_detections = [item for item in detections if item["category_id"] == category["id"]]
        curves[[LOC, C50, C75], :, number] = strict[:, :, number, :, -1].transpose(0, 2, 1)
        alike = [c for c in truth["categories"] if c["supercategory"] == category["supercategory"]]
        for curve, others in ((SIM, alike), (OTH, truth["categories"])):
            tolerant = copy.deepcopy(truth)
            for item in tolerant["annotations"]:
                if item["category_id"] in {c["id"] for c in others} - {category["id"]}:
                    item |= {"ignore": 1, "iscrowd": 1, "category_id": category["id"]}
            engine = reference(tolerant, class_detections, [category["name"]], [0.1])
            curves[curve, :, number] = engine.eval["precision"][0, :, 0, :, -1].T
    curves[curves == -1] = 0
    curves[BG], curves[FN] = curves[OTH] > 0, 1
    return curves


def assert_equals_standard(ours, theirs, counts):
    defined = ~np.isnan(ours[FN])
    assert np.array_equal(defined, np.broadcast_to(counts[:, 1:, None] > 0, defined.shape))
    assert np.abs(ours - theirs)[:, defined].max(initial=0) < 1e-6
    assert not theirs[:FN, ~defined].any()


@pytest.mark.parametrize("tied", [False, True])
def test_curves_equal_those_of_the_standard_analysis(tied):
    generator = np.random.default_rng(60 + tied)
    for _ in range(12):
        truth, detections, _ = random_input(generator, tied)
        with_supercategories(truth, "a", "a", "b")
        counts = count_objects(pair(truth, detections), list(AREAS))
        assert_equals_standard(breakdown_of(truth, detections), standard(truth, detections), counts)


def test_tolerant_curves_equal_those_of_mmdets_tool():
    from pycocotools.coco import COCO

    specification = importlib.util.spec_from_file_location("tool", TOOL)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    truth, detections, _ = random_input(np.random.default_rng(5), tied=False)
    with_supercategories(truth, "a", "a", "b")
    ours = breakdown_of(truth, detections)
    with contextlib.redirect_stdout(io.StringIO()):
        target = COCO()
        target.dataset = copy.deepcopy(truth)
        target.createIndex()
        results = target.loadRes(copy.deepcopy(detections))
        for number, category in enumerate(target.getCatIds()):
            _, curves = tool.analyze_individual_category(number, results, target, category, "bbox")
            for curve, name in ((SIM, "ps_supercategory"), (OTH, "ps_allcategory")):
                theirs = curves[name][..., 0].T
                assert np.abs(np.nan_to_num(ours[curve, :, number], nan=-1) - theirs).max() < 1e-6
    assert len(truth["categories"]) > 2


def scene():
    """Return objects of three classes, two with one supercategory, in two images."""
    boxes = [(1, 3, SQUARE), (1, 6, (100, 0, 40, 40)), (2, 9, (100, 100, 40, 40))]
    truth = coco(boxes, images=(1, 2, 3), names=("cat", "dog", "car"))
    return with_supercategories(truth, "animal", "animal", "vehicle")


def aps(detections):
    """Return the cats' AP by every curve, in points."""
    return (100 * breakdown_of(scene(), detections)[:, 0, 0].mean(axis=-1)).tolist()


RIGHT = detection(1, 3, SQUARE, 0.5)


@pytest.mark.parametrize(
    ("wrong", "curve_name"),
    [
        (detection(1, 3, (100, 0, 40, 40), 0.9), SIM),
        (detection(2, 3, (100, 100, 40, 40), 0.9), OTH),
        (detection(3, 3, AWAY, 0.9), BG),
    ],
    ids=["similar class", "other class", "background"],
)
def test_a_false_positive_is_tolerated_from_the_curve_of_its_kind_on(wrong, curve_name):
    # A false positive above the only object halves the precision until it is tolerated.
    expected = [100.0 if curve >= curve_name else 50.0 for curve in range(len(CURVES))]
    assert aps([wrong, RIGHT]) == pytest.approx(expected)


def test_a_duplicate_is_tolerated_with_the_background():
    truth = with_supercategories(coco([(1, 3, SQUARE), (1, 3, AWAY)]), "animal")
    places = ((SQUARE, 0.9), (SQUARE, 0.8), (AWAY, 0.7))
    curves = breakdown_of(truth, [detection(1, 3, box, score) for box, score in places])
    half = (51 + 50 * 2 / 3) / 101  # from recall 0.51 on, two of three are right
    assert curves[:, 0, 0].mean(axis=-1) == pytest.approx([half] * 5 + [1, 1])


def test_localization_and_misses():
    shifted = detection(1, 3, (20, 0, 40, 40), 0.9)  # IoU 1/3
    assert aps([shifted]) == pytest.approx([0, 0, 100, 100, 100, 100, 100])
    assert aps([]) == pytest.approx([0, 0, 0, 0, 0, 0, 100])


def test_perfect_detections_have_no_errors():
    truth = scene()
    detections = [
        detection(item["image_id"], item["category_id"], item["bbox"], 0.9)
        for item in truth["annotations"]
    ]
    curves = breakdown_of(truth, detections)
    assert (curves[:, ~np.isnan(curves[FN])] == 1).all()


def test_more_tolerant_rules_do_not_lower_a_curve():
    generator = np.random.default_rng(7)
    for _ in range(20):
        truth, detections, _ = random_input(generator, tied=False)
        aps = with_mean(breakdown_of(with_supercategories(truth, "a", "b"), detections)).mean(
            axis=-1
        )
        steps = np.diff(aps, axis=0)
        assert np.nanmin(np.append(steps, 0)) > -0.02  # greedy matching is not optimal


def test_permuting_detections_changes_nothing():
    generator = np.random.default_rng(8)
    truth, detections, _ = random_input(generator, tied=False)
    with_supercategories(truth, "a", "b")
    before = breakdown_of(truth, detections)
    after = breakdown_of(
        truth, [detections[place] for place in generator.permutation(len(detections))]
    )
    assert np.array_equal(before, after, equal_nan=True)


def test_a_class_without_objects_is_left_out_of_means():
    truth = with_supercategories(coco([(1, 3, SQUARE)]), "animal")
    detections = [detection(1, 3, SQUARE, 0.9), detection(1, 6, AWAY, 0.9)]
    curves = with_mean(breakdown_of(truth, detections))
    frame = summary(
        curves, count_objects(pair(truth, detections), list(AREAS)), [OVERALL, "cat", "dog"], AREAS
    )
    assert frame["objects"].tolist() == [1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    overall = frame[(frame["category"] == OVERALL)].set_index("area")
    assert overall["C50"].tolist() == pytest.approx([100, np.nan, 100, np.nan], nan_ok=True)
    assert frame[frame["category"] == "dog"][[*CURVES, *PARTS]].isna().all(axis=None)


@pytest.mark.parametrize("names", [("animal", ""), ("none",), (None,)])
def test_without_supercategories_sim_is_undefined(names):
    truth = with_supercategories(scene(), *names)
    assert similar(truth["categories"]) is None
    curves = breakdown_of(truth, [RIGHT, detection(1, 3, (100, 0, 40, 40), 0.9)])
    assert np.isnan(curves[SIM]).all()
    counts = count_objects(pair(truth, []), list(AREAS))
    frame = summary(with_mean(curves), counts, [OVERALL, "cat", "dog", "car"], list(AREAS))
    cat = frame[(frame["category"] == "cat") & (frame["area"] == "all")].iloc[0]
    assert np.isnan(cat["similar class"])
    assert cat["other class"] == pytest.approx(50)
    assert cat[["C50", *PARTS]].sum() == pytest.approx(100)


def test_reading_a_file_preserves_supercategories(tmp_path):
    from kd.common.files import write_json
    from kd.data.coco import scan_coco
    from kd.data.entry import Dataset

    truth = scene()
    for image in truth["images"]:
        image["file_name"] = f"{image['id']}.jpg"
    write_json(tmp_path / "all.json", truth)
    split = {"annotations": "all.json", "images": "."}
    entry = {"format": "coco", "root": str(tmp_path), "train": split, "test": split}
    dataset = Dataset.parse({**entry, "image_size": [640, 480], "fetch": ""}, "here")
    categories = scan_coco(dataset, "test", None).categories
    assert [category["supercategory"] for category in categories] == ["animal", "animal", "vehicle"]


# --- Tables and pictures of runs ----------------------------------------------------------------


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Return two seeds of a baseline and one of a distilled student on a scene."""
    truth = scene()
    monkeypatch.setattr("analysis.runs.groups.truth_of", lambda *_: GroundTruth(truth, [], ""))
    folders = []
    for number, (methods, shift) in enumerate([({}, 0), ({}, 20), ({"rm": {}}, 0)]):
        folders.append(write_run(tmp_path / str(number), methods, seed=number % 2))
        records = [(1, 0, [shift, 0, 40, 40], 0.9), (1, 1, [100, 0, 40, 40], 0.8)]
        write_detections(folders[-1], records)
    return groups(*folders)


def test_numbers_and_curves_of_runs(runs):
    numbers, curves = compute_tables(runs, scene(), list(AREAS), ["dog"]).values()
    everything = numbers[(numbers["area"] == "all") & (numbers["category"] == OVERALL)]
    assert everything[["run", "seed"]].values.tolist() == [
        ["Student", 0],
        ["Student", 1],
        ["RM", 0],
    ]
    assert everything["C50"].tolist() == pytest.approx([200 / 3, 100 / 3, 200 / 3])
    assert everything["localization"].tolist() == pytest.approx([0, 100 / 3, 0])
    assert everything["missed"].tolist() == pytest.approx([100 / 3] * 3)
    assert set(curves["category"]) == {OVERALL, "dog"}
    assert len(curves) == 2 * 2 * len(AREAS) * 101
    student = curves[(curves["run"] == "Student") & (curves["category"] == OVERALL)]
    # The mean over both seeds.
    assert student[student["area"] == "all"]["C50"].mean() == pytest.approx(0.5)


def test_bars_fill_up_to_100_and_have_labels(runs):
    results = CocoErrors().run(runs, Library())
    panels = {axes.get_title(loc="left"): axes for axes in results.pictures["coco_errors"].axes}
    # The objects have 1,600 square pixels: other ranges have no object.
    assert list(panels) == ["All areas", "Medium (32² to 96² px²)"]
    bars = panels["All areas"].patches
    ends = [bar.get_x() + bar.get_width() for bar in bars]
    assert max(ends) == pytest.approx(100)
    assert [text.get_text() for text in panels["All areas"].get_yticklabels()] == ["Student", "RM"]
    assert "50.0" in {text.get_text() for text in panels["All areas"].texts}
    (legend,) = results.pictures["coco_errors"].legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["AP75", "AP50 less AP75"]
    assert (
        "Categories without an object in the range of areas 'small': cat, dog, car."
        in results.caption
    )


def test_parts_have_a_bar_for_each_run_and_whiskers_for_seeds(runs):
    picture = CocoErrors().run(runs, Library()).pictures["coco_errors-parts"]
    first = picture.axes[0]
    assert first.get_title(loc="left") == "AP50"
    assert [bar.get_width() for bar in first.patches] == pytest.approx([50, 200 / 3])
    assert len(first.containers) == 3  # two bars, and the whisker of the run with two seeds
    assert {text.get_text() for text in first.texts} == {"50.0", "66.7"}


def test_curves_are_drawn_for_runs_and_categories(runs):
    results = CocoErrors(categories=["dog", "cat"]).run(runs, Library())
    filled = results.pictures["coco_errors-curves"].axes
    assert [axes.get_title(loc="left") for axes in filled] == ["Student", "RM"] * 3
    assert filled[2].get_ylabel() == "dog\nPrecision"
    lines = results.pictures["coco_errors-precision"].axes
    assert lines[0].get_title(loc="left") == "All categories, IoU 0.50"
    names = [text.get_text() for text in lines[0].get_legend().get_texts()]
    assert names == ["66.7 RM", "50.0 Student"]
    assert "C75 66.7   C50 66.7" in filled[1].get_xlabel()
    assert [line.get_label() for line in lines[0].lines] == ["Student", "RM"]
    assert lines[3].lines[1].get_ydata() == pytest.approx(np.ones(101))
    table = results.pictures["coco_errors-by-category"].axes[0]
    assert [text.get_text() for text in table.get_yticklabels()] == ["dog", "cat"]


def test_a_category_has_a_panel_for_each_run_and_range_of_areas(runs):
    results = CocoErrors(categories=["cat"]).run(runs, Library())
    panels = results.pictures["coco_errors-areas"].axes
    titles = [axes.get_title(loc="left") for axes in panels]
    # The other ranges of areas contain no cat.
    assert titles == ["All areas\n1 object", "Medium (32² to 96² px²)\n1 object", "", ""]
    assert [panels[0].get_ylabel(), panels[2].get_ylabel()] == ["Student", "RM"]
    aps = [text.get_text() for text in panels[2].get_legend().get_texts()]
    assert aps[0] == "100.0 FN" and aps[-1] == "100.0 C75"
    assert "AP50 of cat: Student 50.0, RM 100.0." in results.caption
    assert (
        "for cat: a row of panels for each of Student and RM"
        in (results.alt_texts["coco_errors-areas"])
    )


def test_a_category_that_the_data_lack_has_a_stand_in(runs):
    boxes = [(1, 3, SQUARE), (1, 6, SQUARE), (2, 6, SQUARE), (2, 9, SQUARE)]
    truth = coco(boxes, images=(1, 2), names=("cat", "dog", "car"))
    names = drawn_categories(["apple", "car", "spoon"], truth, 1)
    assert names == {"apple": "dog", "car": "car", "spoon": "cat"}
    assert drawn_categories(["skis"], truth, 6) == {"skis": "car"}
    results = CocoErrors(categories=["apple"], stand_in=2).run(runs, Library())
    assert results.caption.startswith("The data have no category 'apple'; 'dog' is drawn instead")


@pytest.mark.parametrize("count", [5, 14])
def test_pictures_are_legible(runs, count):
    tables = compute_tables(runs, scene(), list(AREAS), [])
    copies = [f"Method {number}" for number in range(count)]
    tables = {
        name: pd.concat([frame[frame["run"] == "Student"].assign(run=run) for run in copies])
        for name, frame in tables.items()
    }
    looks = dict(zip(copies, row_looks([("distilled", name) for name in copies]), strict=True))
    pictures = plots.plot_figures(tables, looks, "all", ["cat", "dog"])
    assert {name: faults(picture) for name, picture in pictures.items()} == {
        name: [] for name in CocoErrors.pictures
    }


def test_an_odd_number_of_ranges_leaves_no_empty_place():
    areas = ["all", "small", "medium"]
    frame = pd.DataFrame(
        [{"run": "RM", "seed": 0, "area": area, "category": OVERALL} for area in areas]
    ).assign(**dict.fromkeys(("C75", "C50", "Loc", "Sim", "Oth", "BG", "FN", *PARTS), 50.0))
    figure = plots.plot(frame)
    figure.draw_without_rendering()
    wide, left, right = (axes.get_position() for axes in figure.axes)
    assert wide.width > 1.9 * left.width and right.x1 == pytest.approx(wide.x1)


def test_alternative_texts_name_the_best_run(runs):
    texts = CocoErrors().run(runs, Library()).alt_texts
    assert "AP50 is highest for RM (66.7) and lowest for Student (50.0)" in texts["coco_errors"]
    assert set(texts) == set(CocoErrors.pictures)


def test_unknown_categories_are_errors_with_the_nearest_name(runs):
    with pytest.raises(UserError, match="categories: no category 'dig'; did you mean 'dog'"):
        CocoErrors(categories=["dig"]).run(runs, Library())


@pytest.mark.parametrize("count", [1, 12])
def test_pictures_of_runs_without_detections(count):
    names = [f"run {number}" for number in range(count)]
    truth = with_supercategories(coco([(1, 3, SQUARE, {"iscrowd": 1})]), "animal")
    curves = with_mean(breakdown_of(truth, []))
    frame = summary(
        curves, count_objects(pair(truth, []), list(AREAS)), [OVERALL, "cat", "dog"], AREAS
    )
    numbers = pd.concat([frame.assign(run=name, seed=0) for name in names])
    looks = {name: look("distilled", name) for name in names}
    panels = plots.plot(numbers).axes
    assert len(panels) == len(AREAS)
    assert {text.get_text() for text in panels[0].texts} == {"no object"}
    assert plots.plot_parts(numbers, looks).axes
    assert plots.plot_categories(numbers, "all", looks, ["cat", "dog"]).axes
    table = curve_lines(curves, [OVERALL, "cat", "dog"], list(AREAS))
    table = pd.concat([table.assign(run=name) for name in names])
    assert {text.get_text() for text in plots.plot_curves(table, "all").axes[0].texts} == {
        "no object"
    }
    assert plots.plot_precision(table, "all", looks).axes
