"""The failure matrix as it is printed at the end of a run of tests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def lines(stats: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield a line for each case: its outcome, its name, and what was seen."""
    for outcome in ("passed", "failed", "error"):
        for report in stats.get(outcome, []):
            if "tests/slurm/" in getattr(report, "nodeid", ""):
                name = report.nodeid.rpartition("::test_")[2].replace("_", " ")
                yield f"  {outcome:8}{name}: {_seen(report)}"


def _seen(report: Any) -> str:
    said = [text for key, text in report.user_properties if key == "slurm"]
    return said[-1] if said else f"{report.duration:.0f} s"
