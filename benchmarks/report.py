"""Results of a benchmark in results/benchmarks: JSON for scripts, and a table for readers.

Each value has its middle half over rounds, its target, and the value of an earlier run of the
benchmark: that of ``--before``, or of ``<name>-before.json`` if it exists.
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from kd.common.files import read_json, write_json, write_text
from kd.common.results import RESULTS
from kd.common.timing import Quartiles
from kd.records.provenance import environment, now

FOLDER = RESULTS / "benchmarks"
TINY = "tiny"
"""Folder in FOLDER for results of ``--tiny``."""


@dataclass(frozen=True)
class Line:
    """One value of a benchmark."""

    what: str
    value: Quartiles
    most: float | None = None
    """Largest value on target."""
    least: float | None = None
    """Smallest value on target."""
    details: dict[str, float] = field(default_factory=dict)
    """Further columns, by a title that has the unit: medians in ms, bytes, counts."""

    @property
    def on_target(self) -> bool:
        """Return True if the median is on target."""
        above = self.least is None or self.value.median >= self.least
        return above and (self.most is None or self.value.median <= self.most)

    @property
    def target(self) -> str:
        if self.most is not None:
            return f"<= {self.most:g}"
        return "" if self.least is None else f">= {self.least:g}"


def arguments(text: str) -> argparse.ArgumentParser:
    """Return a benchmark's parser with the options rounds, name and before."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=15, help="number of rounds; values are medians over rounds"
    )
    parser.add_argument("--name", help="name of the files in results/benchmarks")
    parser.add_argument(
        "--before", type=Path, help="JSON file of an earlier run, shown in an additional column"
    )
    return parser


def parse(parser: argparse.ArgumentParser, **tiny: Any) -> argparse.Namespace:
    """Return a benchmark's options, with ``--device`` and ``--tiny``, and use the device.

    ``tiny``: defaults of ``--tiny``, with which the benchmark runs the same code in seconds.
    """
    add_device_options(parser)
    if "--tiny" in sys.argv[1:]:
        parser.set_defaults(name=f"{TINY}/{Path(sys.argv[0]).stem}", **tiny)
    options = parser.parse_args()
    use(options.device)
    return options


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add the options device and tiny."""
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="device (default: a GPU if torch finds one)"
    )
    parser.add_argument(
        "--tiny",
        action="store_true",
        help=f"run in seconds, to test the code; results go to {FOLDER / TINY}",
    )


def use(device: str | None) -> None:
    """Hide the GPUs from this process if ``device`` is ``cpu``; exit if ``cuda`` is absent.

    Imported modules have chosen the GPU already, so the process starts again without one.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: --device cuda: torch finds no GPU; --device cpu needs none")
    if device == "cpu" and torch.cuda.is_available():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def device_name() -> str:
    """Return the name of the GPU or, without one, of the processor."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def publish(
    name: str,
    about: str,
    lines: Sequence[Line],
    before: Path | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Write ``<name>.json`` and ``<name>.md``; return the table.

    ``about`` is a sentence on the measurement and the machine; ``notes`` are paragraphs after the
    table.
    """
    default = FOLDER / f"{name}-before.json"
    earlier = _earlier_values(before or default) if before or default.exists() else {}
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
    """Return the name of the processor, or of its architecture."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        for line in cpu_info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _record(line: Line) -> dict[str, Any]:
    return {**asdict(line), "value": line.value._asdict(), "met": line.on_target}


def _earlier_values(path: Path) -> dict[str, dict[str, float]]:
    """Return the values of an earlier run by line: the median, and details by their titles."""
    return {
        line["what"]: {"median": line["value"]["median"], **line["details"]}
        for line in read_json(path)["lines"]
    }


def _table(lines: Sequence[Line], earlier: dict[str, dict[str, float]]) -> list[str]:
    extra = list(dict.fromkeys(title for line in lines for title in line.details))
    titles = ["", *(["before"] if earlier else []), "median", "middle half", "target", "met"]
    head = [*titles, *extra]
    rows = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for line in lines:
        value, bound = line.value, line.target != ""
        then = earlier.get(line.what, {})
        cells = [line.what, *([_number(then.get("median"))] if earlier else [])]
        cells += [_number(value.median), f"{_number(value.low)} to {_number(value.high)}"]
        cells += [line.target, ("yes" if line.on_target else "**no**") if bound else ""]
        cells += [_with_earlier(line.details.get(title), then.get(title)) for title in extra]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _with_earlier(now: float | None, then: float | None) -> str:
    """Return a number, with the earlier one in brackets if it changed by a hundredth or more."""
    if now is None or then is None or abs(now - then) < 0.01 * abs(then):
        return _number(now)
    return f"{_number(now)} ({_number(then)})"


def _number(value: float | None) -> str:
    """Return a number with three significant digits, or all digits of its integer part."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
