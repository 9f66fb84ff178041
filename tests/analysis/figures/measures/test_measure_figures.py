"""Reliability diagrams, optimal LRP and confusion matrices of runs: tables, pictures, captions."""

import numpy as np
import pandas as pd
import pytest

from analysis.figures import get
from analysis.figures.calibration import plot as calibration_plot
from analysis.figures.calibration.analysis import Calibration
from analysis.figures.confusion import plot as confusion_plot
from analysis.figures.confusion.analysis import Confusion
from analysis.figures.confusion.compute import BACKGROUND, OTHERS, reduced, shares
from analysis.figures.lrp import plot as lrp_plot
from analysis.figures.lrp.analysis import Lrp
from analysis.plotting.style import row_looks
from kd.common.errors import UserError
from kd.config.library import Library
from kd.data.readers import GroundTruth
from tests.analysis.fakes import groups, write_detections, write_run
from tests.analysis.figures.legibility import faults
from tests.support.scenes import coco

CAT, DOG = 3, 6
OBJECTS = [(1, CAT, (0, 0, 40, 40)), (1, DOG, (100, 0, 40, 40)), (2, CAT, (0, 0, 40, 40))]
TRUTH = coco(OBJECTS, images=(1, 2, 3))
PERFECT = [(1, 0, [0, 0, 40, 40], 0.9), (1, 1, [100, 0, 40, 40], 0.8), (2, 0, [0, 0, 40, 40], 0.7)]
LOOSE = [(1, 0, [0, 0, 40, 30], 0.9), *PERFECT[1:]]
MISNAMED = [(1, 1, [0, 0, 40, 40], 0.9), *PERFECT[1:]]
ANALYSES = [Calibration, Lrp, Confusion]


@pytest.fixture(scope="module", autouse=True)
def _split():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.runs.groups.truth_of", lambda *_: GroundTruth(TRUTH, [], ""))
        yield


@pytest.fixture(scope="module")
def run_groups(tmp_path_factory):
    """Return a baseline of two seeds, a perfect run, and one without detections."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [("", 0, LOOSE), ("", 1, MISNAMED), ("rm", 0, PERFECT), ("dicod", 0, [])]
    folders = []
    for number, (method, seed, records) in enumerate(runs):
        folders.append(write_run(folder / str(number), {method: {}} if method else {}, seed=seed))
        write_detections(folders[-1], records)
    return groups(*folders)


@pytest.fixture(scope="module")
def results(run_groups):
    return {analysis: analysis().run(run_groups, Library()) for analysis in ANALYSES}


def test_errors_are_in_points_and_bins_are_of_all_seeds(results):
    errors, bins = results[Calibration].tables.values()
    loose = errors[(errors["run"] == "Student") & (errors["seed"] == 0)].iloc[0]
    assert loose["D-ECE"] == pytest.approx(100 * (0.1 + 0.2 + 0.3) / 3)
    cat = (0.9 - 0.75 + 0.3) / 2
    assert loose["LaECE"] == pytest.approx(100 * (cat + 0.2) / 2)
    student = bins[bins["run"] == "Student"].set_index("low")
    assert student.loc[0.9, ["count", "confidence", "precision", "precision_iou"]].tolist() == (
        pytest.approx([2, 0.9, 0.5, 0.375])
    )
    assert errors.iloc[-1][["detections", "D-ECE"]].isna().tolist() == [False, True]


def test_the_legend_names_hollow_marks(results):
    (legend,) = results[Calibration].pictures["calibration"].legends
    assert legend.get_texts()[-1].get_text() == "fewer than 20 detections"


def test_any_overlap_counts_at_an_iou_of_zero(run_groups):
    errors = Calibration(iou=0).run(run_groups, Library()).tables["calibration"]
    assert errors["LaECE"].notna().tolist() == [True, True, True, False]


def test_components_of_lrp_are_means_over_seeds(results):
    frame = results[Lrp].tables["lrp"].set_index("run")
    assert frame.loc["RM", ["oLRP", "localization", "false_positives", "missed"]].tolist() == (
        [0, 0, 0, 0]
    )
    assert frame.loc["DICOD", "oLRP"] == frame.loc["DICOD", "missed"] == 100
    # Seed 0: two cats, one of them with IoU 0.75; seed 1: one cat of two, and a wrong dog.
    assert frame.loc["Student", "oLRP"] == pytest.approx(100 * (0.25 / 2 + (0.5 + 0.5) / 2) / 2)
    assert frame.loc["Student", "seeds"] == 2
    low, high = frame.loc["Student", ["oLRP_low", "oLRP_high"]]
    assert 0 <= low < frame.loc["Student", "oLRP"] < high <= 100
    by_class = results[Lrp].tables["lrp-by-class"]
    assert by_class[by_class["run"] == "RM"]["score"].tolist() == [0.7, 0.8]


def test_differences_of_lrp_are_paired(results):
    frame = results[Lrp].tables["lrp-differences"].set_index("run")
    means = results[Lrp].tables["lrp"].set_index("run")["oLRP"]
    assert list(frame.index) == ["RM", "DICOD"]
    assert frame["oLRP"].tolist() == pytest.approx(
        [means["RM"] - means["Student"], means["DICOD"] - means["Student"]]
    )
    assert frame.loc["DICOD", ["localization", "localization_low"]].isna().all()
    assert "from Student whose interval does not contain zero: " in results[Lrp].caption
    assert "differences from Student" in results[Lrp].alt_texts["lrp"]


def test_one_run_of_lrp_has_no_differences(run_groups):
    results = Lrp(resamples=5).run(run_groups[1:], Library())
    assert results.tables["lrp-differences"].empty
    assert len(results.pictures["lrp"].axes) == 4


def test_without_resamples_lrp_has_no_intervals(run_groups):
    results = Lrp(resamples=0).run(run_groups, Library())
    assert results.tables["lrp"]["oLRP_low"].isna().all()
    assert "Intervals" not in results.caption


def test_matrices_count_objects_of_all_seeds(results):
    frame = results[Confusion].tables["confusion"]
    student = frame[frame["run"] == "Student"].set_index(["object", "detection"])
    assert student["count"].to_dict() == {("cat", "cat"): 3, ("cat", "dog"): 1, ("dog", "dog"): 2}
    assert student.loc[("cat", "dog"), "share"] == 25
    missed = frame[(frame["run"] == "DICOD") & (frame["detection"] == BACKGROUND)]
    assert missed["share"].tolist() == [100, 100]
    assert "Student cat as dog (25)" in results[Confusion].caption


def test_one_score_may_be_set_for_all_classes(run_groups):
    frame = Confusion(score=0.75).run(run_groups, Library()).tables["confusion"]
    rm = frame[frame["run"] == "RM"].set_index(["object", "detection"])["count"]
    assert rm.to_dict() == {("cat", "cat"): 1, ("cat", BACKGROUND): 1, ("dog", "dog"): 1}


def test_classes_without_large_confusions_are_added_up():
    names = [f"class {number}" for number in range(20)]
    counts = np.diag(np.full(21, 5))
    counts[-1, -1] = 0
    counts[3, 7], counts[7, 12], counts[2, -1], counts[-1, 1] = 9, 4, 2, 6
    smaller, labels = reduced({"run": counts}, names, 3)
    assert labels == ["class 3", "class 7", "class 12", OTHERS, BACKGROUND]
    assert smaller["run"].sum() == counts.sum()
    assert smaller["run"].tolist() == [
        [5, 9, 0, 0, 0], [0, 5, 4, 0, 0], [0, 0, 5, 0, 0], [0, 0, 0, 85, 2], [0, 0, 0, 6, 0],
    ]  # fmt: skip
    assert reduced({"run": counts}, names, 20)[1] == [*names, BACKGROUND]


@pytest.mark.parametrize("analysis", ANALYSES)
def test_pictures_have_alternative_texts_and_are_legible(analysis, results):
    result = results[analysis]
    assert set(result.alt_texts) == set(result.pictures) == set(analysis.pictures)
    assert "Student" in " ".join(result.alt_texts.values())
    assert {name: faults(picture) for name, picture in result.pictures.items()} == {
        name: [] for name in analysis.pictures
    }
    assert get(analysis.__module__.split(".")[2]) is analysis


@pytest.mark.parametrize("count", [1, 11])
def test_pictures_of_many_runs_are_legible(results, count):
    names = [f"Method number {number}" for number in range(count)]
    looks = dict(zip(names, row_looks([("distilled", name) for name in names]), strict=True))

    def copies(frame):
        lines = frame[frame["run"] == "Student"]
        return pd.concat([lines.assign(run=name) for name in names], ignore_index=True)

    generator = np.random.default_rng(0)
    counts = generator.integers(0, 50, (81, 81))
    labels = [f"a long class {number}" for number in range(80)]
    tables = {name: copies(frame) for name, frame in results[Calibration].tables.items()}
    lrp = {"lrp": copies(results[Lrp].tables["lrp"])}
    lrp["lrp-differences"] = lrp["lrp"].assign(baseline="Student")
    pictures = {
        **calibration_plot.plot_figures(tables, looks),
        **lrp_plot.plot_figures(lrp, looks),
        **confusion_plot.plot_figures(dict.fromkeys(names, counts), labels, 10),
    }
    assert {name: faults(picture) for name, picture in pictures.items()} == {
        name: [] for name in pictures
    }


def test_an_empty_row_has_no_shares():
    assert np.isnan(shares(np.array([[0, 0], [1, 3]]))[0]).all()
    assert shares(np.array([[0, 0], [1, 3]]))[1].tolist() == [25, 75]


@pytest.mark.parametrize(
    ("analysis", "settings"),
    [("calibration", {"bins": 1}), ("lrp", {"iou": 1}), ("confusion", {"classes": 20})],
)
def test_settings_out_of_range_are_errors(analysis, settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        get(analysis).parse(settings, "settings")
