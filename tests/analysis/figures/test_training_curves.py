"""Training curves: reading logs, averaging over steps and seeds, and the pictures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.figures.base import looks_of
from analysis.figures.training_curves.analysis import TrainingCurves, caption
from analysis.figures.training_curves.compute import (
    average,
    compute_tables,
    default_smoothing,
    read_log,
    total_share,
)
from analysis.figures.training_curves.plot import plot
from analysis.runs.titles import loss_name
from kd.common.errors import UserError
from kd.config.library import Library
from tests.analysis.fakes import groups, write_lines, write_metrics, write_run

HALF = '{"step": 30, "los'


def record(step, loss, **terms):
    """Return a record of the log; terms named after a method are distillation terms."""
    shares = {name: value / loss for name, value in terms.items() if "_rm" in name}
    return {"step": step, "epoch": 1 + step // 20, "lr": 0.1, "loss": loss, **terms} | (
        {"share": shares, "acc": 50.0}
    )


@pytest.fixture
def distilled(tmp_path):
    """Return a run whose log ends with an incomplete line."""
    run = write_run(tmp_path / "rm", {"rm": {"weight": 2.0}})
    rows = [(10, 4.0, 3.0, 1.0), (20, 2.0, 1.5, 0.5)]
    log = [record(s, total, loss_cls=cls, loss_rm_cls=rm) for s, total, cls, rm in rows]
    write_lines(run / "log.jsonl", log, HALF)
    return run


@pytest.fixture
def baseline(tmp_path):
    """Return two seeds of one row that logged the same steps."""
    runs = []
    for seed, factor in enumerate((1.0, 3.0)):
        run = write_run(tmp_path / f"alone{seed}", seed=seed)
        log = [record(s, factor * s, loss_cls=factor * s) for s in (10, 20, 30)]
        write_lines(run / "log.jsonl", log)
        write_metrics(run, 0.1 + 0.1 * seed)
        runs.append(run)
    return runs


def table(*runs, metric="AP"):
    return compute_tables(groups(*runs), metric)[0]["training_curves"]


def values(frame, quantity):
    return frame[frame["quantity"] == quantity].set_index("step")["value"].to_dict()


def test_an_incomplete_line_is_skipped(distilled):
    log = read_log(distilled / "log.jsonl")
    assert [record["step"] for record in log.records] == [10, 20]
    assert log.damaged == 1


@pytest.mark.parametrize("text", ["", "\n[1]\n", "null\n", '{"loss": 1}\n', "\x00\x00"])
def test_lines_that_are_no_records_are_skipped(tmp_path, text):
    (tmp_path / "log.jsonl").write_text(text)
    assert read_log(tmp_path / "log.jsonl").records == []
    assert read_log(tmp_path / "absent.jsonl") == ([], 0)


def test_terms_belong_to_detection_or_distillation_and_shares_are_per_cent(distilled):
    tables, damaged = compute_tables(groups(distilled), "AP")
    frame = tables["training_curves"]
    assert damaged == 1
    assert values(frame, "loss") == {10: 4, 20: 2}
    assert values(frame, "detection") == {10: 3, 20: 1.5}
    assert values(frame, "distillation") == {10: 1, 20: 0.5}
    assert values(frame, "share") == {10: 25, 20: 25}
    assert values(frame, "lr") == {10: 0.1, 20: 0.1}
    assert set(frame["term"]) == {"", "cls", "rm_cls"}  # without the accuracy
    assert frame["quantity"].eq("AP").sum() == 0


def test_the_metric_of_the_last_epoch_is_that_of_the_finished_run(distilled):
    validated = [{"epoch": 1, "step": 5, "AP": 0.1}, {"epoch": 2, "step": 15, "AP": None}]
    write_lines(distilled / "validation.jsonl", validated, '{"epo')
    write_metrics(distilled, 0.25, AP50=0.5)
    tables, damaged = compute_tables(groups(distilled), "AP")
    assert values(tables["training_curves"], "AP") == {5: 10, 20: 25}
    assert damaged == 2
    assert values(table(distilled, metric="AP50"), "AP50") == {20: 50}


def test_seeds_have_a_mean_and_a_band(baseline):
    frame = table(*baseline)
    curve = average(frame[frame["quantity"] == "loss"], 0)
    assert curve["step"].tolist() == [10, 20, 30]
    assert curve["mean"].tolist() == [20, 40, 60]
    assert curve["low"].tolist() == [10, 20, 30]
    assert curve["high"].tolist() == [30, 60, 90]


def test_steps_of_a_run_are_averaged_before_seeds(baseline):
    frame = table(*baseline)
    curve = average(frame[frame["quantity"] == "loss"], 20)  # steps 1 to 20, and 21 to 40
    assert curve["step"].tolist() == [15, 30]
    assert curve["mean"].tolist() == [30, 60]
    assert curve["high"].tolist() == [45, 90]


def test_the_longest_curve_has_fifty_points():
    assert default_smoothing(pd.DataFrame({"step": [1, 500]})) == 10


def test_shares_add_up_by_record():
    rows = [("a", 0, 10, 1.0), ("a", 0, 10, 2.0), ("a", 1, 10, 4.0), ("b", 0, 10, 8.0)]
    total = total_share(pd.DataFrame(rows, columns=["run", "seed", "step", "value"]))
    assert total["value"].tolist() == [3, 4, 8]


def results_of(*runs, **settings):
    return TrainingCurves(**settings).run(groups(*runs), Library())


def panel(figure: Figure, title: str):
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left") == title)
    return axes


def test_figures_show_every_term_with_its_values(distilled, baseline):
    results = results_of(distilled, *baseline, smooth=0)
    curves, terms, shares = results.pictures.values()
    losses = {line.get_label(): line for line in panel(curves, "Training loss").lines}
    assert losses["RM"].get_ydata().tolist() == [4, 2]
    assert losses["Student"].get_ydata().tolist() == [20, 40, 60]
    assert len(panel(curves, "Training loss").collections) == 1  # the band of the two seeds
    final = panel(curves, "AP after training")
    assert final.get_xlabel() == "AP, test split (points)"
    assert final.lines[-1].get_xdata()[0] == pytest.approx(15)
    assert [axes.get_title(loc="left") for axes in terms.axes] == [
        "Classification",
        "RM: classification",
    ]
    (line,) = panel(shares, "RM: classification").lines
    assert line.get_ydata().tolist() == [25, 25]
    assert [text.get_text() for text in shares.legends[0].get_texts()] == ["RM"]
    assert len(results.tables["training_curves"]) == 2 * 5 + 2 * 3 * 3 + 2
    assert "skipped: 1." in results.caption
    assert "25 % (RM) of the loss" in results.caption


def test_alternative_texts_state_the_terms_at_the_end(distilled, baseline):
    texts = results_of(distilled, *baseline).alt_texts
    assert texts["training_curves-terms"].endswith(
        "for RM and Student. At the end: Classification 1.5 to 60; RM: classification 0.5."
    )


def test_equal_learning_rates_are_one_line(distilled, baseline, tmp_path):
    def rates(*runs):
        return panel(results_of(*runs).pictures["training_curves"], "Learning rate")

    # One training is longer; up to the end of the other both have the same rates.
    for runs in (baseline, [distilled, *baseline]):
        (line,) = rates(*runs).lines
        assert line.get_xdata().tolist() == [10, 20, 30]
    assert rates(distilled, *baseline).get_ylabel().startswith("All rows")
    other = write_run(tmp_path / "other", {"rm": {"weight": 5}})
    write_lines(other / "log.jsonl", [record(10, 1.0) | {"lr": 0.5}])
    assert len(rates(other, *baseline).lines) == 2


def test_runs_that_were_not_evaluated_in_training_have_a_point_on_an_axis_of_five_points(tmp_path):
    for number, ap in enumerate((0.60, 0.61)):
        run = write_run(tmp_path / str(number), {"rm": {"weight": number}})
        write_lines(run / "log.jsonl", [record(10, 1.0)])
        write_metrics(run, ap)
    results = results_of(tmp_path / "0", tmp_path / "1")
    axes = panel(results.pictures["training_curves"], "AP after training")
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[60, 0]], [[61, 1]]]
    low, high = axes.get_xlim()
    assert high - low == pytest.approx(5)
    assert "No run was evaluated during training" in results.caption


def test_a_panel_title_names_the_method_of_a_term_and_its_part():
    names = {
        "cls": "Classification",
        "rpn_bbox": "RPN boxes",
        "pfi": "PFI",
        "soft_labels": "Soft labels",
        "rm_loc": "RM: localization",
        "chen_rpn_cls": "Chen 2017: RPN classification",
        "unheard_of": "Unheard of",
    }
    assert {term: loss_name(term) for term in names} == names


def test_an_unfinished_run_without_a_method_has_curves(tmp_path):
    run = write_run(tmp_path / "alone")
    write_lines(run / "log.jsonl", [record(10, 1.0, loss_cls=1.0)])
    results = results_of(run)
    assert "No run has a value of AP yet" in results.caption
    shares = results.pictures["training_curves-shares"]
    assert "no distillation term" in [text.get_text() for text in shares.texts]


def test_twelve_methods_of_three_terms_have_a_panel_each(tmp_path):
    runs = []
    for number in range(12):
        run = write_run(tmp_path / str(number), {"rm": {"weight": number}})
        terms = {f"loss_rm_{number}_{term}": 10.0 ** (number - 6) for term in range(3)}
        write_lines(run / "log.jsonl", [record(s, 1e9, **terms) for s in (10, 20)])
        runs.append(run)
    terms = results_of(*runs).pictures["training_curves-terms"]
    assert len(terms.axes) == 36


def test_values_that_span_decades_have_a_logarithmic_axis(tmp_path):
    run = write_run(tmp_path / "alone")
    log = [record(s, 10.0**-s, loss_cls=0.0, loss_bbox=1.0) for s in (1, 2, 3)]
    write_lines(run / "log.jsonl", log)
    curves, terms, _ = results_of(run, smooth=0).pictures.values()
    assert panel(curves, "Training loss").get_yscale() == "log"
    assert panel(curves, "Training loss").get_ylabel().endswith("log scale")
    assert {axes.get_yscale() for axes in terms.axes} == {"linear"}


def test_all_terms_have_the_same_kind_of_axis_and_few_places_are_empty(tmp_path):
    run = write_run(tmp_path / "alone")
    names = [f"loss_{number}" for number in range(5)]
    log = [record(s, 1.0, **dict.fromkeys(names, 1.0) | {"loss_0": 10.0**-s}) for s in (1, 2, 3)]
    write_lines(run / "log.jsonl", log)
    terms = results_of(run, smooth=0).pictures["training_curves-terms"]
    assert {axes.get_yscale() for axes in terms.axes} == {"log"}
    assert len({axes.get_ylim() for axes in terms.axes}) == 1
    assert terms.axes[0].get_gridspec().get_geometry() == (2, 3)
    assert terms.get_supylabel().endswith("log scale")


def test_drawing_from_the_csv_gives_the_same_lines(distilled, baseline, tmp_path):
    rows = groups(distilled, *baseline)
    frame = table(distilled, *baseline)
    frame.to_csv(tmp_path / "curves.csv", index=False)
    looks = looks_of(rows)
    figures = [
        plot(lines.fillna({"term": ""}), looks, "AP", 20)
        for lines in (frame, pd.read_csv(tmp_path / "curves.csv"))
    ]
    first, second = ([line.get_xydata() for axes in f.axes for line in axes.lines] for f in figures)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_runs_of_published_weights_have_no_curves(tmp_path):
    with pytest.raises(UserError, match=r"none of the runs has a log\.jsonl"):
        results_of(write_run(tmp_path / "imported"))


def test_an_unknown_metric_is_an_error():
    with pytest.raises(UserError, match="key 'metric'"):
        TrainingCurves.parse({"metric": "mAP"}, "settings")


def test_a_curve_on_the_validation_split_has_no_point_of_the_test_split(distilled):
    records = [
        {"epoch": 1, "step": 5, "split": "test", "AP": 0.1},
        {"epoch": 2, "step": 20, "split": "val", "AP": 0.3},
    ]
    write_lines(distilled / "validation.jsonl", records)
    write_metrics(distilled, 0.25)
    tables, _ = compute_tables(groups(distilled), "AP")
    assert values(tables["training_curves"], "AP") == {20: 30}
    text = caption(tables, "AP", 0, 0)
    assert "at the end, on the validation split, is 30.0" in text
    picture = plot(tables["training_curves"], looks_of(groups(distilled)), "AP", 0)
    assert picture.axes[1].get_ylabel() == "AP, validation split (points)"


def test_a_curve_on_the_test_split_says_that_there_is_no_other(distilled):
    write_lines(distilled / "validation.jsonl", [{"epoch": 1, "step": 5, "AP": 0.1}])
    tables, _ = compute_tables(groups(distilled), "AP")
    assert "No validation split: AP during training was measured on the test split." in caption(
        tables, "AP", 0, 0
    )
