"""The figure of gains, from made-up runs."""

from dataclasses import replace
from itertools import pairwise

import pytest

from analysis.plotting.style import save
from analysis.tables.formatting import MINUS
from analysis.tables.gain_figure import gain_alt_text, plot_gains
from analysis.tables.rows import RowSpec, build

SEEDS = "95 % over seeds, all rows together"
POINTS = [
    ("ours", lambda row: row.gain and row.gain.mean),
    ("published", lambda row: row.published_gain),
]


def bars(axes, kind):
    """Return the ends and height of each bar over seeds (``gain``) or images (``image``)."""
    segments = [bar.get_segments()[0] for bar in axes.collections if bar.get_gid() == kind]
    return [(*bar[:, 0].tolist(), bar[0, 1]) for bar in segments]


def test_figure_has_the_gains_of_the_rows(results):
    figure = plot_gains(results)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["RetinaNet", "FCOS"]
    for axes in figure.axes:
        title = axes.get_title(loc="left")
        group = [row for row in results if row.group == title and row.kind == "distilled"]
        for name, gain_of in POINTS:
            points = next(line for line in axes.lines if line.get_gid() == name)
            gains = [float("nan") if gain_of(row) is None else gain_of(row) for row in group]
            assert list(points.get_xdata()) == pytest.approx(gains, nan_ok=True)
            assert list(points.get_ydata()) == list(range(len(group)))


def test_bars_of_several_seeds_are_simultaneous_intervals(results):
    axes = plot_gains(results).axes[0]
    gains = [row.gain for row in results if row.gain]
    for height, (bar, gain) in enumerate(zip(bars(axes, "gain"), gains, strict=True)):
        assert bar == pytest.approx((*gain.simultaneous, height))
    assert bars(axes, "image") == []


def test_bars_of_one_seed_are_intervals_over_images(run):
    base = {0: run("base", 0.30, spread=1.0)}
    runs = {0: run("s", 0.32, spread=2.0)}
    figure = plot_gains(build([RowSpec("T", "G", "x", "distilled", "a", "b", runs, base)]))
    (bar,) = bars(figure.axes[0], "image")
    assert bar == pytest.approx((2.025, 2.975, 0), abs=1e-5)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["ours", "95 % over images"]


def test_an_interval_over_seeds_replaces_that_over_images(run):
    base = {seed: run(f"b{seed}", 0.30, spread=1.0) for seed in (0, 1)}
    runs = {seed: run(f"s{seed}", ap, spread=2.0) for seed, ap in enumerate((0.31, 0.32))}
    figure = plot_gains(build([RowSpec("T", "G", "x", "distilled", "a", "b", runs, base)]))
    assert len(bars(figure.axes[0], "gain")) == 1
    assert bars(figure.axes[0], "image") == []


def test_legend_names_the_marks_of_the_figure(results):
    names = [text.get_text() for text in plot_gains(results).legends[0].get_texts()]
    assert names == ["ours", SEEDS, "helps or hurts", "published"]


def test_figure_names_gaps_and_remarks(results):
    figure = plot_gains(results)
    names = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert names[0].startswith("KD_cls | loc\nfailed: out of memory")
    assert names[1] == "absent\nnot started"
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][2] == "half_way†"
    caption = figure.get_supxlabel().splitlines()
    assert caption[0] == "Gain over the student's own baseline (AP points)"
    assert caption[1:] == ["† published under other conditions than ours"]


def test_gains_of_a_voc_table_are_in_map(run):
    runs, base = {0: run("s", 0.5, VOC07=0.75)}, {0: run("b", 0.5, VOC07=0.72)}
    row = RowSpec("T", "G", "x", "distilled", "a", "b", runs, base, metric="VOC07")
    figure = plot_gains(build([row]))
    assert figure.get_supxlabel() == "Gain over the student's own baseline (mAP points)"
    (ours,) = (line for line in figure.axes[0].lines if line.get_gid() == "ours")
    assert list(ours.get_xdata()) == pytest.approx([3.0])


@pytest.mark.parametrize("panels", [1, 3, 4])
def test_figure_labels_do_not_overlap(run, panels):
    """Twelve rows a group, long names and one failure: every text keeps to itself."""
    base = {0: run("base", 0.3)}
    runs = [{0: run(f"r{rank}", 0.3 + rank / 100)} for rank in range(11)]
    runs.append({0: run("lost", failure="the first pyramid level's loss is not finite")})
    names = [f"method {rank}: " + "word " * 9 for rank in range(12)]
    rows = [
        RowSpec("T", f"group {panel}", name, "distilled", "a", "b", one, base)
        for panel in range(panels)
        for name, one in zip(names, runs, strict=True)
    ]
    figure = plot_gains(build(rows))
    figure.draw_without_rendering()
    assert len(figure.axes) == panels
    for axes in figure.axes:
        visible = [
            text for text in axes.get_yticklabels() if text.get_visible() and text.get_text()
        ]
        for text in visible:
            assert text.get_window_extent().x0 >= 0
        for upper, lower in pairwise(visible):
            assert upper.get_window_extent().y0 >= lower.get_window_extent().y1 - 1


def test_published_gains_are_left_out_beside_gains_of_stand_ins(run):
    """A gain on generated shapes and a gain on COCO have no common axis."""
    spec = RowSpec(
        "T", "G", "x", "distilled", "a", "b",
        {seed: run(f"s{seed}", 0.31) for seed in (0, 1)},
        {seed: run(f"b{seed}", 0.3) for seed in (0, 1)},
        published={"AP": 0.4}, published_baseline={"AP": 0.35}, scale="paper", differs=("2x",),
    )  # fmt: skip
    miniature = replace(spec, stand_ins=("shapes for COCO",), scale="mini")
    for row in (spec, miniature):
        figure = plot_gains(build([row]))
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        label = figure.axes[0].get_yticklabels()[0].get_text()
        assert ("published" in names) == ("†" in label) == (row is spec)
    assert (
        figure.get_supxlabel().splitlines()[1].startswith("Miniature: results hold for this data")
    )


def test_a_label_does_not_break_within_a_short_setting(run):
    runs, baselines = ({seed: run(f"{name}{seed}", 0.3) for seed in (0, 1)} for name in "ab")
    label = "Student, equal time (14 epochs)"
    figure = plot_gains(build([RowSpec("T", "G", label, "control", "", "b", runs, baselines)]))
    text = figure.axes[0].get_yticklabels()[0].get_text()
    assert text.splitlines() == ["Student, equal time", "(14\u00a0epochs)"]


def test_a_gain_whose_simultaneous_interval_excludes_0_has_its_mark(results):
    figure = plot_gains(results)
    significant = [row for row in results if row.gain and row.gain.significant]
    marks = [text for axes in figure.axes for text in axes.texts if text.get_text() == "*"]
    assert len(marks) == len(significant) > 0
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "helps or hurts" in names


def test_the_alternative_text_has_every_gain_and_the_reason_for_a_gap(results):
    text = gain_alt_text(results)
    assert f"+2.0 ({MINUS}0.8 to +4.8) undetermined" in text and "+3.8) helps;" in text
    assert "not started" in text and "failed: out of memory" in text


def test_no_gain_worth_half_a_point_has_another_mark(results):
    """Both marks may be in one figure; that of an undetermined gain is none."""
    judged = iter(["no gain worth half a point", "hurts", "undetermined"])
    rows = [
        replace(row, gain=replace(row.gain, judgment=next(judged))) if row.gain else row
        for row in results
    ]
    figure = plot_gains(rows)
    assert [text.get_text() for text in figure.axes[0].texts] == ["=", "*"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[2:4] == ["helps or hurts", "no gain worth half a point"]


def test_figure_without_rows():
    assert plot_gains(build([])).texts[0].get_text() == "no distilled row"


def test_figure_files_are_reproducible(results, tmp_path):
    first = [path.read_bytes() for path in save(plot_gains(results), tmp_path / "a" / "gains")]
    paths = save(plot_gains(results), tmp_path / "b" / "gains")
    assert [path.name for path in paths] == ["gains.pdf", "gains.png"]
    assert [path.read_bytes() for path in paths] == first
    assert first[0].startswith(b"%PDF")
    assert first[1].startswith(b"\x89PNG")
