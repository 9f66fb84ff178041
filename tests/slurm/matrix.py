"""Failure matrix, printed at the end of a test run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest


def lines(stats: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield a line per case: outcome, name and report."""
    for outcome in ("passed", "failed", "error"):
        for report in stats.get(outcome, []):
            # An error of collection has a report too, without duration and properties.
            if isinstance(report, pytest.TestReport) and report.nodeid.startswith("tests/slurm/"):
                name = report.nodeid.rpartition("::test_")[2].replace("_", " ")
                yield f"  {outcome:8}{name}: {_text(report)}"


def _text(report: Any) -> str:
    texts = [text for key, text in report.user_properties if key == "slurm"]
    return texts[-1] if texts else f"{report.duration:.0f} s"
