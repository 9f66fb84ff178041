"""Alternative texts of the pictures of training curves."""

from collections.abc import Mapping

import pandas as pd

from analysis.figures.training_curves.compute import total_share
from analysis.plotting.alt_text import extremes
from analysis.runs.titles import loss_name
from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame], metric: str) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    frame = tables["training_curves"]
    rows = enumerate_names(list(frame["run"].unique()))
    terms = frame[frame["quantity"].isin(["detection", "distillation"])].groupby("term", sort=False)
    ends = [f"{loss_name(str(term))} {_span(_last(lines))}" for term, lines in terms]
    shares = total_share(frame[frame["quantity"] == "share"])
    share = (
        f"Lines of each distillation term's share of the loss over the steps. Their sum is at the "
        f"end, in per cent, {extremes(_last(shares), '.2g')}."
    )
    return {
        "training_curves": (
            f"Lines over the steps of training for {rows}: the loss, {metric} and the learning "
            f"rate. At the end {metric} is "
            f"{extremes(_last(frame[frame['quantity'] == metric]))}."
        ),
        "training_curves-terms": (
            f"Lines of each weighted loss term over the steps of training for {rows}. "
            f"{'At the end: ' + '; '.join(ends) if ends else 'No run has a term'}."
        ),
        "training_curves-shares": share if len(shares) else "No run has a distillation term.",
    }


def _span(values: pd.Series) -> str:
    """Return the smallest and the largest value, or the one of a single row."""
    ends = dict.fromkeys(f"{value:.2g}" for value in (values.min(), values.max()))
    return " to ".join(ends)


def _last(lines: pd.DataFrame) -> pd.Series:
    """Return the value of each row at its last step, a mean over the seeds."""
    last = lines.sort_values("step").groupby(["run", "seed"], sort=False)["value"].last()
    return last.groupby("run", sort=False).mean()
