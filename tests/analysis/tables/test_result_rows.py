"""Result rows, from made-up runs with metrics counted by hand."""

import pytest

from analysis.tables.comparability import OTHER_DATA, OTHER_TEACHER
from analysis.tables.markdown import to_markdown
from analysis.tables.rows import RowSpec, build
from kd.common.errors import UserError
from tests.analysis.tables.conftest import DIFFERS, REASON, REMARK


@pytest.fixture
def row_of(results):
    """Return the results by label."""
    return {row.label: row for row in results}


def one_seed(run, label, ap, base, **more):
    return RowSpec("T", "G", label, "distilled", "a", "b", {0: run(label, ap)}, {0: base}, **more)


def test_means_in_points_and_gain_paired_by_seed(row_of):
    """Gains 1, 2, 3 points: mean 2, std 1; student figures 31, 33, 35: mean 33, std 2."""
    row = row_of["RM + PFI"]
    assert (row.seeds, row.status, row.metric) == ("3/3", "done", "AP")
    assert (row.metrics["AP"], row.std) == pytest.approx((33, 2))
    assert (row.gain.mean, row.gain.std) == pytest.approx((2, 1))
    assert row.metrics["AP50"] == pytest.approx(33)
    assert row.published["AP50"] == 53.2
    assert row.published_gain == pytest.approx(2.9)


def test_interval_and_tests_of_three_gains(row_of):
    """At 2 degrees of freedom the 97.5 % quantile is 4.30265 and p is 1 - t / sqrt(2 + t^2)."""
    gain = row_of["RM + PFI"].gain
    assert gain.over_seeds == pytest.approx((-0.48414, 4.48414), abs=1e-5)
    assert gain.p == pytest.approx(0.0741799, abs=1e-6)  # t = 2 sqrt(3)
    assert gain.p_exact == pytest.approx(2 / 8)


def test_gains_are_judged_for_all_planned_rows(row_of):
    """Two rows of three seeds and one of one seed leave 4 degrees of freedom of 10 runs."""
    even, vague = row_of["even"].gain, row_of["RM + PFI"].gain
    assert (row_of["even"].cell.residual_df, row_of["even"].cell.planned_rows) == (4, 5)
    assert even.significant and even.judgment == "helps" and even.p_adjusted < 0.05
    assert not vague.significant and vague.judgment == "undetermined" and vague.p_adjusted > 0.05


def test_another_table_is_another_family(run):
    """One gain alone has Student's interval and p, in whatever other table there is."""

    def row(table, label, aps, base):
        runs = {seed: run(f"{table}{label}{seed}", ap) for seed, ap in enumerate(aps)}
        return RowSpec(table, "G", label, "distilled", "a", "b", runs, base)

    base = {seed: run(f"base{seed}", 0.3) for seed in range(3)}
    aps = (0.319, 0.320, 0.321)
    for result in build([row("T1", "x", aps, base), row("T2", "y", aps, base)]):
        assert result.gain.p_adjusted == pytest.approx(result.gain.p)
        assert result.gain.simultaneous == pytest.approx(result.gain.over_seeds)
        assert result.gain.q == pytest.approx(result.gain.p)


def test_verdicts(row_of):
    """An interval from -0.48 to 4.48 allows both no gain and the published 2.9."""
    assert {label: row.verdict for label, row in row_of.items()} == {
        **{"Teacher": "", "Student": "", "even": "", "absent": ""},
        **{"RM + PFI": "inconclusive", "half_way": "not comparable", "KD_cls | loc": "not run"},
    }


def test_a_verdict_at_another_scale_names_the_scale(run):
    published = {"published": {"AP": 34.0}, "published_baseline": {"AP": 32.0}}
    (row,) = build([one_seed(run, "x", 0.31, run("base", 0.30), scale="smoke", **published)])
    assert row.verdict == "ran at smoke"


def test_teacher_and_baseline_have_no_gain(row_of):
    assert row_of["Teacher"].metrics["AP"] == pytest.approx(36.1)
    for label in ("Teacher", "Student"):
        assert row_of[label].gain is None and row_of[label].published_gain is None
    assert row_of["Teacher"].std is None


def test_one_seed_has_the_interval_of_resampled_images(run):
    """Gains 2 + x for x evenly from 0 to 1, so 95 % of them lie between 2.025 and 2.975."""
    base = run("base", 0.30, spread=1.0)
    student = run("s", 0.32, spread=2.0)
    (row,) = build([RowSpec("T", "G", "x", "distilled", "a", "b", {0: student}, {0: base})])
    assert row.gain.over_images == pytest.approx((2.025, 2.975), abs=1e-5)
    assert row.gain.over_seeds is None and row.gain.p is None


def test_the_image_interval_covers_the_measured_seeds(run):
    """The second student is missing, so its baseline counts for nothing."""
    base = {seed: run(f"base{seed}", 0.30, spread=0.0) for seed in (0, 1)}
    students = {0: run("s0", 0.32, spread=1.0), 1: run("s1")}
    (row,) = build([RowSpec("T", "G", "x", "distilled", "a", "b", students, base)])
    assert row.gain.over_images == pytest.approx((2.025, 2.975), abs=1e-5)


def test_no_image_interval_without_resampled_images(results):
    assert {row.gain.over_images for row in results if row.gain} == {None}


def test_hours_are_those_of_all_measured_runs(row_of, results, run):
    assert [row.usage.hours if row.usage else 0 for row in results] == [4, 3, 6, 0, 0, 0, 0]
    usage = row_of["RM + PFI"].usage
    assert (usage.gpu_hours, usage.images_per_second, usage.memory_mb) == (0, 20, 1500)
    runs = {0: run("g0", 0.3, hours=1, gpus=8), 1: run("g1", hours=1, gpus=8)}
    (row,) = build([RowSpec("T", "G", "x", "baseline", "", "R18", runs)])
    assert (row.usage.hours, row.usage.gpu_hours) == (1, 8)


def test_a_partial_row_uses_its_measured_seeds(row_of):
    row = row_of["half_way"]
    assert (row.seeds, row.status) == ("1/3", "partial, failed: killed")
    assert row.metrics["AP"] == pytest.approx(30.5)
    assert row.std is None and row.gain.std is None and "APL" not in row.metrics


def test_failed_and_missing_runs_have_different_statuses(row_of):
    failed, absent = row_of["KD_cls | loc"], row_of["absent"]
    assert (failed.seeds, failed.status) == ("0/2", f"failed: {REASON}")
    assert failed.failures == (REASON,)
    assert (absent.seeds, absent.status) == ("0/2", "not started")
    for row in (failed, absent):
        assert row.headline is None and row.gain is None and row.usage is None


def test_rows_name_their_runs_and_sources(row_of, tmp_path):
    row = row_of["RM + PFI"]
    assert row.runs == tuple(tmp_path / f"s{seed}" for seed in range(3))
    assert row.baseline_runs == tuple(tmp_path / f"b{seed}" for seed in range(3))
    assert row.teacher_runs == (tmp_path / "t",)
    assert row_of["half_way"].differs == (DIFFERS,)
    assert (row_of["KD_cls | loc"].notes, row_of["KD_cls | loc"].source) == ((REMARK,), "arXiv 2")


def test_a_finished_seed_hides_its_old_failure(run):
    path = run("again", 0.3, failure="preempted")
    (row,) = build([RowSpec("T", "G", "x", "baseline", "", "R18", {0: path})])
    assert row.status == "done"


def test_the_headline_of_a_voc_table_is_its_map(run):
    voc = {"metric": "VOC07", "published": {"VOC07": 76.0}, "published_baseline": {"VOC07": 74.5}}
    students, baseline = {0: run("s", 0.5, VOC07=0.75)}, {0: run("b", 0.5, VOC07=0.72)}
    first, second = build(
        [
            RowSpec("VOC", "G", "x", "distilled", "a", "b", students, baseline, **voc),
            RowSpec("COCO", "G", "x", "distilled", "a", "b", students, baseline),
        ]
    )
    assert (first.gain.mean, second.gain.mean) == pytest.approx((3.0, 0.0))
    assert (first.published_gain, second.published_gain) == (pytest.approx(1.5), None)
    assert (first.headline, first.metrics["AP"], first.published["VOC07"]) == (75.0, 50.0, 76.0)


@pytest.mark.parametrize("text", ['{"AP": 1}', "{", '{"reason": 3}', "[]"])
def test_bad_files_are_named(run, text):
    for name in ("metrics.json", "failure.json"):
        path = run(f"bad {name}")
        (path / name).write_text(text)
        with pytest.raises(UserError, match=name):
            build([RowSpec("T", "G", "x", "baseline", "", "R18", {0: path})])


def test_runs_that_cannot_be_compared_are_marked(run):
    """A row's records against those of its baseline and of its teacher."""
    teacher = run("teacher", hours=1, record={"weights_sha256": "w1"})
    base = run("base", 0.3, hours=1, record={"inputs": {"data": "d1"}})
    depends = {"data": "d1", "teacher": "w1"}

    def row(label, **other):
        record = {"teacher": str(teacher / "weights.pth"), "inputs": depends | other}
        student = run(label, 0.3, hours=1, record=record)
        return RowSpec("T", "G", label, "distilled", "a", "b", {0: student}, {0: base})

    results = build([row("alike"), row("data", data="d2"), row("weights", teacher="w0")])
    assert [row.mismatches for row in results] == [(), (OTHER_DATA,), (OTHER_TEACHER,)]
    text = to_markdown(results)
    assert f"† {OTHER_DATA.capitalize()}" in text and f"‡ {OTHER_TEACHER.capitalize()}" in text


@pytest.mark.parametrize(
    ("teacher", "spread", "remark"),
    [
        (0.36, 0.0, None),  # +6 to +6
        (0.28, 5.0, "its teacher is not clearly better than its student alone (28.0 and 30.0, -1.9"
                    " to +2.9 over images)"),
        (0.31, None, None),
        (0.30, None, "its teacher is not clearly better than its student alone (30.0 and 30.0)"),
    ],
)  # fmt: skip
def test_a_teacher_that_is_not_clearly_better_is_remarked(run, teacher, spread, remark):
    """The teacher's resamples lie 0 to ``spread`` points above its AP, those of the student at 30.

    Ends of the interval are at 2.5 and 97.5 % of them.
    """
    weak = run("teacher", teacher, spread=spread)
    base = run("base", 0.30, spread=None if spread is None else 0.0)
    (row,) = build([one_seed(run, "x", 0.31, base, teacher_detectors={0: weak})])
    assert row.notes == ((remark,) if remark else ())
