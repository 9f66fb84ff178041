"""The frame of results, from made-up runs with figures counted by hand."""

import io

import pandas as pd
import pytest

from analysis.tables.comparability import OTHER_DATA, OTHER_TEACHER
from analysis.tables.markdown import to_markdown
from analysis.tables.rows import RowSpec, build, to_csv
from kd.common.errors import UserError
from tests.analysis.tables.conftest import DIFFERS, REASON, REMARK

CONTRACT = """
    table group row kind teacher student setting scale metric seeds status 
    AP AP50 AP75 APS APM APL std gain gain_std gain_low gain_high image_low image_high 
    p p_exact p_holm verdict published_AP published_AP50 published_AP75 published_APS 
    published_APM published_APL published_gain hours gpu_hours images_per_second memory_mb 
    energy_kwh stand_ins unlike differs note source runs baseline_runs teacher_runs
"""


def one_seed(run, label, ap, base, **more):
    return RowSpec("T", "G", label, "distilled", "a", "b", {0: run(label, ap)}, {0: base}, **more)


def test_columns(frame):
    assert list(frame.columns) == CONTRACT.split()


def test_means_in_points_and_gain_paired_by_seed(frame):
    """Gains 1, 2, 3 points: mean 2, std 1; student figures 31, 33, 35: mean 33, std 2."""
    line = frame.loc["RM + PFI"]
    assert (line["seeds"], line["status"], line["metric"]) == ("3/3", "ok", "AP")
    assert line[["AP", "std", "gain", "gain_std"]].tolist() == pytest.approx([33, 2, 2, 1])
    assert line["AP50"] == pytest.approx(33)
    assert line["published_AP50"] == 53.2
    assert line["published_gain"] == pytest.approx(2.9)


def test_interval_and_tests_of_three_gains(frame):
    """Of 2 degrees of freedom the 97.5 % quantile is 4.30265 and p is 1 - t / sqrt(2 + t^2)."""
    line = frame.loc["RM + PFI"]
    assert line[["gain_low", "gain_high"]].tolist() == pytest.approx([-0.48414, 4.48414], abs=1e-5)
    assert line["p"] == pytest.approx(0.0741799, abs=1e-6)  # t = 2 sqrt(3)
    assert line["p_exact"] == pytest.approx(2 / 8)


def test_holm_corrects_the_gains_of_a_table(frame):
    """Gains 1.9, 2.0, 2.1: t = 20 sqrt(3), p 0.000832; of two tests the smaller p is doubled."""
    assert frame.loc["even", "p"] == pytest.approx(0.000832292, rel=1e-4)
    assert frame.loc["even", "p_holm"] == pytest.approx(0.001664584, rel=1e-4)
    assert frame.loc["RM + PFI", "p_holm"] == pytest.approx(0.0741799, abs=1e-6)
    assert frame.loc[["half_way", "absent", "Student"], ["p", "p_holm"]].isna().all(axis=None)


def test_another_table_is_another_family(run):
    def row(table, label, aps, base):
        runs = {seed: run(f"{table}{label}{seed}", ap) for seed, ap in enumerate(aps)}
        return RowSpec(table, "G", label, "distilled", "a", "b", runs, base)

    base = {seed: run(f"base{seed}", 0.3) for seed in range(3)}
    gains = (0.319, 0.320, 0.321)
    alone = build([row("T1", "x", gains, base), row("T2", "y", gains, base)])
    assert alone["p_holm"].tolist() == pytest.approx(alone["p"].tolist())


def test_verdicts(frame):
    """An interval from -0.48 to 4.48 allows both no gain and the published 2.9."""
    assert frame["verdict"].to_dict() == {
        **{"Teacher": "", "Student": "", "even": "", "absent": ""},
        **{"RM + PFI": "inconclusive", "half_way": "not comparable", "KD_cls | loc": "not run"},
    }


def test_a_verdict_at_another_scale_says_what_was_run(run):
    published = {"published": {"AP": 34.0}, "published_baseline": {"AP": 32.0}}
    row = one_seed(run, "x", 0.31, run("base", 0.30), scale="smoke", **published)
    assert build([row])["verdict"].tolist() == ["ran at smoke"]


def test_teacher_and_baseline_have_no_gain(frame):
    assert frame.loc["Teacher", "AP"] == pytest.approx(36.1)
    gains = ["gain", "gain_std", "gain_low", "image_low", "p", "published_gain"]
    assert frame.loc[["Teacher", "Student"], gains].isna().all(axis=None)
    assert pd.isna(frame.loc["Teacher", "std"])


def test_one_seed_has_the_interval_of_resampled_images(run):
    """Gains 2 + x for x evenly from 0 to 1, so 95 % of them lie between 2.025 and 2.975."""
    base = run("base", 0.30, spread=1.0)
    student = run("s", 0.32, spread=2.0)
    line = build([RowSpec("T", "G", "x", "distilled", "a", "b", {0: student}, {0: base})]).iloc[0]
    assert line[["image_low", "image_high"]].tolist() == pytest.approx([2.025, 2.975], abs=1e-5)
    assert line[["gain_low", "gain_high", "p"]].isna().all()


def test_images_of_the_seeds_that_are_there(run):
    """The second student is missing, so its baseline counts for nothing."""
    base = {seed: run(f"base{seed}", 0.30, spread=0.0) for seed in (0, 1)}
    students = {0: run("s0", 0.32, spread=1.0), 1: run("s1")}
    line = build([RowSpec("T", "G", "x", "distilled", "a", "b", students, base)]).iloc[0]
    assert line[["image_low", "image_high"]].tolist() == pytest.approx([2.025, 2.975], abs=1e-5)


def test_no_image_interval_without_resampled_images(frame):
    assert frame[["image_low", "image_high"]].isna().all(axis=None)


def test_hours_are_those_of_all_measured_runs(frame, run):
    assert frame["hours"].fillna(0).tolist() == [4, 3, 6, 0, 0, 0, 0]
    assert frame.loc["RM + PFI", ["gpu_hours", "images_per_second", "memory_mb"]].tolist() == [
        *(0, 20, 1500),
    ]
    runs = {0: run("g0", 0.3, hours=1, gpus=8), 1: run("g1", hours=1, gpus=8)}
    line = build([RowSpec("T", "G", "x", "baseline", "", "R18", runs)]).iloc[0]
    assert (line["hours"], line["gpu_hours"]) == (1, 8)


def test_partial_row_uses_the_seeds_it_has(frame):
    line = frame.loc["half_way"]
    assert (line["seeds"], line["status"]) == ("1/3", "partial, failed: killed")
    assert line[["AP", "gain"]].tolist() == pytest.approx([30.5, 0.5])
    assert line[["std", "gain_std", "APL"]].isna().all()


def test_failed_and_missing_runs_are_rows_of_their_own_kind(frame):
    assert frame.loc["KD_cls | loc", ["seeds", "status"]].tolist() == ["0/2", f"failed: {REASON}"]
    assert frame.loc["absent", ["seeds", "status"]].tolist() == ["0/2", "not run"]
    assert frame.loc[["KD_cls | loc", "absent"], ["AP", "gain", "hours"]].isna().all(axis=None)


def test_lines_lead_back_to_runs_and_sources(frame, tmp_path):
    line = frame.loc["RM + PFI"]
    assert line["runs"] == " ".join(str(tmp_path / f"s{seed}") for seed in range(3))
    assert line["baseline_runs"] == " ".join(str(tmp_path / f"b{seed}") for seed in range(3))
    assert line["teacher_runs"] == str(tmp_path / "t")
    assert frame.loc["half_way", "differs"] == DIFFERS
    assert frame.loc["KD_cls | loc", ["note", "source"]].tolist() == [REMARK, "arXiv 2"]


def test_finished_seed_outlives_its_old_failure(run):
    path = run("again", 0.3, failure="preempted")
    line = build([RowSpec("T", "G", "x", "baseline", "", "R18", {0: path})]).iloc[0]
    assert line["status"] == "ok"


def test_the_headline_of_a_voc_table_is_its_map(run):
    voc = {"metric": "VOC07", "published": {"VOC07": 76.0}, "published_baseline": {"VOC07": 74.5}}
    students, baseline = {0: run("s", 0.5, VOC07=0.75)}, {0: run("b", 0.5, VOC07=0.72)}
    rows = [
        RowSpec("VOC", "G", "x", "distilled", "a", "b", students, baseline, **voc),
        RowSpec("COCO", "G", "x", "distilled", "a", "b", students, baseline),
    ]
    frame = build(rows)
    assert frame["gain"].tolist() == pytest.approx([3.0, 0.0])
    assert frame["published_gain"].tolist() == pytest.approx([1.5, float("nan")], nan_ok=True)
    assert frame.loc[0, ["VOC07", "AP", "published_VOC07"]].tolist() == [75.0, 50.0, 76.0]


@pytest.mark.parametrize("text", ['{"AP": 1}', "{", '{"reason": 3}', "[]"])
def test_bad_files_are_named(run, text):
    for name in ("metrics.json", "failure.json"):
        path = run(f"bad {name}")
        (path / name).write_text(text)
        with pytest.raises(UserError, match=name):
            build([RowSpec("T", "G", "x", "baseline", "", "R18", {0: path})])


def test_csv_reads_back(frame):
    again = pd.read_csv(io.StringIO(to_csv(frame)))
    assert list(again.columns) == list(frame.columns)
    for column in ("gain", "p_holm", "gain_low", "hours"):
        assert again[column].tolist() == pytest.approx(
            frame[column].tolist(), rel=1e-5, nan_ok=True
        )
    assert again["status"].tolist() == frame["status"].tolist()


def test_what_was_not_made_alike_is_said(run):
    """A row's records against those of its baseline and of the teacher that it names."""
    teacher = run("teacher", hours=1, record={"weights_sha256": "w1"})
    base = run("base", 0.3, hours=1, record={"inputs": {"data": "d1"}})
    depends = {"data": "d1", "teacher": "w1"}

    def row(label, **other):
        record = {"teacher": str(teacher / "weights.pth"), "inputs": depends | other}
        made = run(label, 0.3, hours=1, record=record)
        return RowSpec("T", "G", label, "distilled", "a", "b", {0: made}, {0: base})

    rows = [row("alike"), row("data", data="d2"), row("weights", teacher="w0")]
    assert build(rows)["unlike"].tolist() == ["", OTHER_DATA, OTHER_TEACHER]
    text = to_markdown(build(rows))
    assert f"† {OTHER_DATA.capitalize()}" in text and f"‡ {OTHER_TEACHER.capitalize()}" in text
