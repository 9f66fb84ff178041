"""Tables and the gain figure, from made-up runs with figures counted by hand."""

import io
import json
from itertools import pairwise

import pandas as pd
import pytest

from analysis.gains import OFFSET, plot
from analysis.style import save
from analysis.tables import ABSENT, RowSpec, build, to_csv, to_latex, to_markdown
from kd.errors import UserError
from kd.evaluation import COCO_FIGURES

NOTE = "scale smoke: 100 images & 50% of the steps"


def metrics(ap, **figures):
    """Return the content of metrics.json with every figure ``ap`` but those named."""
    names = (*COCO_FIGURES, "VOC07", "VOC12")
    counts = {"per_class": {}, "images": 1, "boxes": 1, "detections": 1}
    return dict.fromkeys(names, ap) | figures | counts


@pytest.fixture
def run(tmp_path):
    """Return a function that makes a run directory: measured, failed or empty."""

    def make(name, ap=None, failure=None, **figures):
        path = tmp_path / name
        path.mkdir()
        if ap is not None:
            (path / "metrics.json").write_text(json.dumps(metrics(ap, **figures)))
        if failure is not None:
            (path / "failure.json").write_text(json.dumps({"reason": failure}))
        return path

    return make


@pytest.fixture
def rows(run):
    """Return two groups: all that can become of a run, once."""
    baseline = {seed: run(f"b{seed}", ap) for seed, ap in enumerate((0.300, 0.310, 0.320))}
    students = {seed: run(f"s{seed}", ap) for seed, ap in enumerate((0.310, 0.330, 0.350))}
    halfway = {0: run("h0", 0.305, APL=None), 1: run("h1", failure="killed"), 2: run("h2")}
    failed = {seed: run(f"f{seed}", failure="out of memory\nTraceback ...") for seed in (0, 1)}
    ours = {"teacher": "R50", "student": "R18", "baseline_runs": baseline}
    published = {"published": {"AP": 34.8, "AP50": 53.2}, "published_baseline": {"AP": 31.9}}

    def row(group, label, runs, **more):
        return RowSpec("Table 1", group, label, "distilled", runs=runs, **ours, **more)

    return [
        RowSpec("Table 1", "RetinaNet", "R50", "teacher", "R50", "", {0: run("t", 0.361)}),
        RowSpec("Table 1", "RetinaNet", "R18", "baseline", "", "R18", baseline),
        row("RetinaNet", "RM + PFI", students, **published),
        row("RetinaNet", "half_way", halfway, **published, note=NOTE),
        row("FCOS", "KD_cls | loc", failed, **published, note=NOTE),
        row("FCOS", "absent", {0: run("a0"), 1: run("a1")}),
    ]


@pytest.fixture
def frame(rows):
    return build(rows).set_index("row", drop=False)


def test_means_in_points_and_gain_paired_by_seed(frame):
    """Gains 1, 2, 3 points: mean 2, std 1; student figures 31, 33, 35: mean 33, std 2."""
    line = frame.loc["RM + PFI"]
    assert (line["seeds"], line["status"]) == ("3/3", "ok")
    assert line[["AP", "AP_std", "gain", "gain_std"]].tolist() == pytest.approx([33, 2, 2, 1])
    assert line["AP50"] == pytest.approx(33)
    assert line["published_AP50"] == 53.2
    assert line["published_gain"] == pytest.approx(2.9)


def test_teacher_and_baseline_have_no_gain(frame):
    assert frame.loc["R50", "AP"] == pytest.approx(36.1)
    assert frame.loc[["R50", "R18"], ["gain", "gain_std", "published_gain"]].isna().all(axis=None)
    assert pd.isna(frame.loc["R50", "AP_std"])


def test_partial_row_uses_the_seeds_it_has(frame):
    line = frame.loc["half_way"]
    assert (line["seeds"], line["status"]) == ("1/3", "partial, failed: killed")
    assert line[["AP", "gain"]].tolist() == pytest.approx([30.5, 0.5])
    assert line[["AP_std", "gain_std", "APL"]].isna().all()


def test_failed_and_missing_runs_are_rows_of_their_own_kind(frame):
    assert frame.loc["KD_cls | loc", ["seeds", "status"]].tolist() == [
        "0/2",
        "failed: out of memory",
    ]
    assert frame.loc["absent", ["seeds", "status"]].tolist() == ["0/2", "not run"]
    assert frame.loc[["KD_cls | loc", "absent"], ["AP", "gain"]].isna().all(axis=None)


def test_runs_lead_back_to_their_directories(frame, tmp_path):
    assert frame.loc["RM + PFI", "runs"] == " ".join(
        str(tmp_path / f"s{seed}") for seed in range(3)
    )


def test_finished_seed_outlives_its_old_failure(run):
    path = run("again", 0.3, failure="preempted")
    line = build([RowSpec("T", "G", "x", "baseline", "", "R18", {0: path})]).iloc[0]
    assert line["status"] == "ok"


def test_headline_may_be_another_figure(run):
    runs = {0: run("s", 0.5, VOC07=0.75)}
    baseline = {0: run("b", 0.5, VOC07=0.72)}
    row = RowSpec(
        "T", "G", "x", "distilled", "a", "b", runs, baseline, {"VOC07": 76.0}, metrics=("AP",)
    )
    frame = build([row], headline="VOC07")
    line = frame.iloc[0]
    assert line["gain"] == pytest.approx(3.0)
    assert (line["VOC07"], line["AP"], line["published_VOC07"]) == (75.0, 50.0, 76.0)
    assert pd.isna(line["VOC07_std"])
    assert "Published VOC07" in to_markdown(frame)


@pytest.mark.parametrize("text", ['{"AP": 1}', "{", '{"reason": 3}', "[]"])
def test_bad_files_are_named(run, text):
    for name in ("metrics.json", "failure.json"):
        path = run(f"bad {name}")
        (path / name).write_text(text)
        with pytest.raises(UserError, match=name):
            build([RowSpec("T", "G", "x", "baseline", "", "R18", {0: path})])


def test_unknown_figure_is_refused():
    with pytest.raises(UserError, match=r"no such figure in .* mAP"):
        build([], headline="mAP")


def test_csv_reads_back(frame):
    again = pd.read_csv(io.StringIO(to_csv(frame)))
    assert list(again.columns) == list(frame.columns)
    assert again["gain"].tolist() == pytest.approx(frame["gain"].tolist(), abs=1e-4, nan_ok=True)


MARKDOWN = r"""
| R50 | R50 | - | 1/1 | 36.1 | 36.1 | 36.1 | 36.1 | 36.1 | 36.1 | - | - | - |
| R18 | - | R18 | 3/3 | 31.0 ± 1.0 | 31.0 | 31.0 | 31.0 | 31.0 | 31.0 | - | - | - |
| RM + PFI | R50 | R18 | 3/3 | 33.0 ± 2.0 | 33.0 | 33.0 | 33.0 | 33.0 | 33.0 | +2.0 ± 1.0 | 34.8 | +2.9 |
| half\_way | R50 | R18 | 1/3, failed: killed | 30.5 | 30.5 | 30.5 | 30.5 | 30.5 | - | +0.5 | 34.8† | +2.9† |
| KD\_cls \| loc | R50 | R18 | 0/2 | failed: out of memory | - | - | - | - | - | - | 34.8† | +2.9† |
| absent | R50 | R18 | 0/2 | not run | - | - | - | - | - | - | - | - |
"""  # noqa: E501
HEADER = (
    "| Row | Teacher | Student | Seeds | AP | AP50 | AP75 | APS | APM | APL | Gain "
    "| Published AP | Published gain |\n| --- | --- | --- | --- |" + " ---: |" * 9
)


def test_markdown(frame):
    text = to_markdown(frame, "Study").replace(ABSENT, "-")
    retinanet, fcos = (MARKDOWN.strip().splitlines()[part] for part in (slice(4), slice(4, 6)))
    assert text == "\n".join(
        [
            *("# Study", "", "## Table 1", "", "### RetinaNet", "", HEADER, *retinanet, ""),
            *("### FCOS", "", HEADER, *fcos, "", f"† {NOTE}", ""),
        ]
    )


def test_losses_have_a_true_minus_and_zero_no_sign(run):
    def row(label, ap):
        return RowSpec("T", "G", label, "distilled", "a", "b", {0: run(label, ap)}, {0: base})

    base = run("base", 0.3)
    text = to_markdown(build([row("worse", 0.288), row("same", 0.2998)]))
    assert "| \u22121.2 |" in text
    assert "| 30.0 | 30.0 | 30.0 | 30.0 | 30.0 | 30.0 | 0.0 |" in text


def test_note_without_published_value_marks_the_label(run):
    rows = [
        RowSpec("T", "G", label, "baseline", "", "b", {0: run(label)}, note=note)
        for label, note in (("one", "first"), ("two", "second"), ("three", "first"), ("four", ""))
    ]
    text = to_markdown(build(rows))
    for part in ("| one† |", "| two‡ |", "| three† |", "| four |", "† first\n\n‡ second\n"):
        assert part in text


def test_latex(frame):
    text = to_latex(frame)
    for part in (
        r"\caption{Table 1}",
        r"\begin{tabular}{llllrrrrrrrrr}",
        r"\multicolumn{13}{l}{\emph{RetinaNet}} \\",
        r"RM + PFI & R50 & R18 & 3/3 & 33.0 $\pm$ 2.0 & 33.0 &",
        r"half\_way & R50",
        r"\multicolumn{7}{l}{\emph{failed: out of memory}} & 34.8\textsuperscript{\textdagger} &",
        r"KD\_cls \textbar{} loc",
        r"\textsuperscript{\textdagger} scale smoke: 100 images \& 50\% of the steps",
    ):
        assert part in text
    assert text.count(r"\midrule") == 2
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    full = [
        line for line in body.splitlines() if line and "multicolumn" not in line and "&" in line
    ]
    assert all(line.replace(r"\&", "").count("&") == 12 for line in full)


def test_latex_escapes_what_it_would_execute(run):
    label = r"[a] \b_{c} ~d^e #1 $5 <*>"
    text = to_latex(build([RowSpec("T", "G", label, "baseline", "", "x", {0: run("r")})]))
    assert (
        r"{[}a] \textbackslash{}b\_\{c\} \textasciitilde{}d\textasciicircum{}e \#1 \$5 "
        r"\textless{}{*}\textgreater{} &"
    ) in text


def test_latex_title_goes_before_the_table(frame):
    assert r"\caption{RM \& PFI: Table 1}" in to_latex(frame, "RM & PFI")


def test_each_table_has_its_own_latex_and_only_its_footnotes(run):
    rows = [
        RowSpec(table, "G", "x", "baseline", "", "b", {0: run(table)}, note=note)
        for table, note in (("Table 1", "first"), ("Table 2", "second"))
    ]
    first, second = to_latex(build(rows)).split(r"\end{table}")[:2]
    assert "first" in first
    assert "second" not in first
    assert r"\textsuperscript{\textdaggerdbl} second" in second


DRAWN = [("ours", "gain", -OFFSET), ("published", "published_gain", OFFSET)]


def test_figure_shows_the_gains_of_the_frame(frame):
    figure = plot(frame)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["RetinaNet", "FCOS"]
    for axes in figure.axes:
        group = frame[
            (frame["group"] == axes.get_title(loc="left")) & (frame["kind"] == "distilled")
        ]
        for name, column, shift in DRAWN:
            drawn = next(line for line in axes.lines if line.get_gid() == name)
            assert list(drawn.get_xdata()) == pytest.approx(group[column].tolist(), nan_ok=True)
            assert list(drawn.get_ydata()) == pytest.approx([shift, 1 + shift])
    bar = figure.axes[0].collections[0].get_segments()[0]
    assert bar[:, 0].tolist() == pytest.approx([1.0, 3.0])


def test_figure_names_gaps_and_footnotes(frame):
    figure = plot(frame)
    names = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert names == ["KD_cls | loc†\nfailed: out of memory", "absent\nnot run"]
    assert f"† {NOTE}" in figure.get_supxlabel()


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
    figure = plot(build(rows))
    figure.draw_without_rendering()
    assert len(figure.axes) == panels
    for axes in figure.axes:
        shown = [text for text in axes.get_yticklabels() if text.get_visible() and text.get_text()]
        for text in shown:
            assert text.get_window_extent().x0 >= 0
        for upper, lower in pairwise(shown):
            assert upper.get_window_extent().y0 >= lower.get_window_extent().y1 - 1


def test_figure_of_nothing():
    assert plot(build([])).texts[0].get_text() == "no distilled row"


def test_figure_files_are_the_same_each_time(frame, tmp_path):
    first = [path.read_bytes() for path in save(plot(frame), tmp_path / "a" / "gains")]
    paths = save(plot(frame), tmp_path / "b" / "gains")
    assert [path.name for path in paths] == ["gains.pdf", "gains.png"]
    assert [path.read_bytes() for path in paths] == first
    assert first[0].startswith(b"%PDF")
    assert first[1].startswith(b"\x89PNG")
