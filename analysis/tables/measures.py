"""Optimal LRP and calibration errors of a table, in print."""

from collections.abc import Sequence

from analysis.tables.formatting import number
from analysis.tables.rows import MEASURES, ResultRow

TITLES = {
    "oLRP": "oLRP",
    "oLRP_loc": "Localization",
    "oLRP_FP": "False positives",
    "oLRP_FN": "Missed",
    "D_ECE": "D-ECE",
    "LaECE": "LaECE",
    "LaECE0": "LaECE0",
}
"""Headings of ``MEASURES``."""
NOTE = (
    "Points, means over seeds; lower is better. oLRP: mean error of detections and missed objects "
    "at the best score threshold of each class, at IoU 0.5. Localization (mean 1 - IoU), false "
    "positives (1 - precision) and missed objects (1 - recall) are at that threshold. D-ECE: gap "
    "between confidence and precision. LaECE: gap between confidence and precision times IoU; "
    "LaECE0 counts every overlap as a true positive."
)


def measure_cells(row: ResultRow) -> dict[str, str]:
    """Return the measures of a row as text by column."""
    return {TITLES[name]: number(row.metrics.get(name)) for name in MEASURES}


def has_measures(row: ResultRow) -> bool:
    """Return True if the runs of a row were evaluated with these measures."""
    return any(name in row.metrics for name in MEASURES)


def measure_notes(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line that defines the columns; none if no row was measured."""
    return [NOTE] if any(map(has_measures, rows)) else []


def measure_facts(row: ResultRow) -> list[tuple[str, str]]:
    """Return the measured ones with their titles."""
    return [(TITLES[name], number(row.metrics.get(name))) for name in MEASURES
            if name in row.metrics]  # fmt: skip
