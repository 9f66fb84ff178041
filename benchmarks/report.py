"""What a benchmark leaves in results/benchmarks: JSON for scripts, a table for people.

Beside each figure stand its middle half over rounds, what it should be, and what an earlier run of
the same benchmark found: with ``--before``, or where ``<name>-before.json`` is kept.
"""

import argparse
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kd.common.files import read_json, write_json, write_text
from kd.common.results import RESULTS
from kd.common.timing import Quartiles
from kd.records.provenance import environment, now

FOLDER = RESULTS / "benchmarks"


@dataclass(frozen=True)
class Line:
    """One figure of a benchmark."""

    what: str
    value: Quartiles
    most: float | None = None
    """What it should not exceed."""
    least: float | None = None
    """What it should reach."""
    details: dict[str, float] = field(default_factory=dict)
    """Further columns, by a title that has the unit: medians in ms, bytes, counts."""

    @property
    def kept(self) -> bool:
        """Whether the median is within what it should be."""
        above = self.least is None or self.value.median >= self.least
        return above and (self.most is None or self.value.median <= self.most)

    @property
    def target(self) -> str:
        if self.most is not None:
            return f"<= {self.most:g}"
        return "" if self.least is None else f">= {self.least:g}"


def arguments(text: str) -> argparse.ArgumentParser:
    """Return a benchmark's parser, told how many rounds, what to call it and what went before."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="of which medians are taken")
    parser.add_argument("--name", help="of its files in results/benchmarks")
    parser.add_argument("--before", type=Path, help="JSON of an earlier run, for a column beside")
    return parser


def publish(
    name: str,
    about: str,
    lines: Sequence[Line],
    before: Path | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Write ``<name>.json`` and ``<name>.md``; return the table.

    ``about``: what was measured, on what, in a sentence; ``notes``: paragraphs after the table.
    """
    kept = FOLDER / f"{name}-before.json"
    earlier = _earlier(before or kept) if before or kept.exists() else {}
    content: dict[str, Any] = {
        "benchmark": name,
        "about": about,
        "time": now(),
        **environment(),
        "cpu": processor(),
        "lines": [_record(line) for line in lines],
        "notes": list(notes),
    }
    text = "\n".join([about, "", *_table(lines, earlier), *(f"\n{note}" for note in notes)])
    write_json(FOLDER / f"{name}.json", content)
    write_text(FOLDER / f"{name}.md", text + "\n")
    return text


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _record(line: Line) -> dict[str, Any]:
    return {**asdict(line), "value": line.value._asdict(), "kept": line.kept}


def _earlier(path: Path) -> dict[str, dict[str, float]]:
    """Return what was found then by line: the median, and details by their titles."""
    return {
        line["what"]: {"median": line["value"]["median"], **line["details"]}
        for line in read_json(path)["lines"]
    }


def _table(lines: Sequence[Line], earlier: dict[str, dict[str, float]]) -> list[str]:
    extra = list(dict.fromkeys(title for line in lines for title in line.details))
    titles = ["", *(["before"] if earlier else []), "median", "middle half", "target", "kept"]
    head = [*titles, *extra]
    rows = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for line in lines:
        value, bound = line.value, line.target != ""
        then = earlier.get(line.what, {})
        cells = [line.what, *([_number(then.get("median"))] if earlier else [])]
        cells += [_number(value.median), f"{_number(value.low)} to {_number(value.high)}"]
        cells += [line.target, ("yes" if line.kept else "**no**") if bound else ""]
        cells += [_with_earlier(line.details.get(title), then.get(title)) for title in extra]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _with_earlier(now: float | None, then: float | None) -> str:
    """Return a number, and in brackets what it was where it changed by a hundredth or more."""
    if now is None or then is None or abs(now - then) < 0.01 * abs(then):
        return _number(now)
    return f"{_number(now)} ({_number(then)})"


def _number(value: float | None) -> str:
    """Return three significant digits, and never fewer than the integer part has."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
