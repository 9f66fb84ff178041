"""What a table lets one say of each method: its intervals, its tests, and the word they decide."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.statistics.seeds import SIGNIFICANT
from analysis.tables import rows as tables
from analysis.tables.formatting import ABSENT, Line, number


def table(rows: pd.DataFrame) -> Iterator[dict[str, str]]:
    """Yield a line for each row of a table that has a gain; reads
    ``analysis.tables.rows.build``.
    """
    for line in tables.lines(rows):
        if line["kind"] == "distilled" and not pd.isna(line["gain"]):
            yield {
                "Row": line["row"],
                "Gain": number(line["gain"], signed=True),
                "95 % over seeds": _ends(line, "gain"),
                "95 % over images": _ends(line, "image"),
                "p": probability(line["p"]),
                "p, corrected": probability(line["p_holm"]),
                "p, exact": probability(line["p_exact"]),
                "Verdict": verdict(line),
            }


def verdict(line: Line) -> str:
    """Return what the corrected paired t test says of a gain: helps, hurts, or open."""
    if not line["p_holm"] < SIGNIFICANT:
        return "open"
    return "helps" if line["gain"] > 0 else "hurts"


def probability(value: float) -> str:
    """Return a p value in print."""
    return ABSENT if pd.isna(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def ratio(value: float) -> str:
    """Return a ratio in print, with two digits however small it is."""
    return ABSENT if pd.isna(value) else f"{value:.2g}"


def _ends(line: dict[str, Any], kind: str) -> str:
    low, high = (line[f"{kind}_{end}"] for end in ("low", "high"))
    if pd.isna(low):
        return ABSENT
    return f"{number(low, signed=True)} to {number(high, signed=True)}"
