"""Headlines on the front of the page, and headings of its tables."""

from dataclasses import replace
from pathlib import Path

from analysis.report.grids import table_views
from analysis.report.summary import summarize
from analysis.statistics.gains import Gain
from analysis.statistics.seeds import Interval
from analysis.tables.rows import ResultRow


def test_the_largest_gain_is_that_of_a_distilled_row_and_not_of_a_control() -> None:
    gain = Gain(1.0, 0.1, simultaneous=Interval(0.5, 1.5), judgment="helps")
    measured = {"seeds_measured": 2, "seeds_planned": 2, "runs": (Path("run"),)}
    rows = [
        ResultRow("T", "G", label, kind, "", "s", **measured, gain=of_row)
        for label, kind, of_row in (
            ("Student", "baseline", None),
            ("Longer", "control", replace(gain, mean=3.0)),
            ("RM", "distilled", gain),
        )
    ]
    ((_, (headline,)),) = summarize(table_views(rows, {"run": "done"}))
    assert (headline.largest, headline.gains, headline.range) == ("RM", 1, "+1.0")


def test_the_verdict_on_a_level_names_the_metric_of_the_table() -> None:
    row = ResultRow(
        "T", "G", "Student", "baseline", "", "s", metric="VOC07", level_verdict="reproduced",
        metrics={"VOC07": 70.0}, seeds_measured=2, seeds_planned=2, runs=(Path("run"),),
    )  # fmt: skip
    (view,) = table_views([row], {"run": "done"})
    assert "Verdict on mAP" in [column.label for column in view.columns]
