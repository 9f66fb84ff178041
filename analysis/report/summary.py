"""The front of the page: what each table says in a line, and the other studies of this place."""

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.report.grids import TableView
from analysis.report.intervals import has
from analysis.tables.formatting import ABSENT, Line, gain, name_of, number
from analysis.tables.rows import GAIN, WORDS, grouped
from analysis.tables.rows import lines as lines_of
from analysis.tables.write import PARTIAL
from kd.common.results import RESULTS
from kd.config.library import Library
from kd.config.run import study_folder

PAGE = "report.html"
STATE = re.compile(r'<meta name="kd-state" content="([^"]*)">')
HEAD = 4000
"""Characters of another page in which its state stands."""


class Headline(NamedTuple):
    """A detector's rows in short; the texts are as the table prints them."""

    group: str
    baseline: str
    best: str
    """The distilled row of the largest gain; empty where there is none."""
    gain: str
    published: str


def headlines(table: TableView) -> list[Headline]:
    """Return the headline of each group of a table."""
    return [_headline(group, [row.line for row in rows]) for group, rows in table.groups.items()]


def _headline(group: str, lines: Sequence[Line]) -> Headline:
    measured = [line for line in lines if has(line, "gain")]
    best = max(measured, key=lambda line: float(line["gain"]), default=None)
    baseline = next((line for line in lines if line["kind"] == "baseline"), lines[0])
    metric = baseline["metric"]
    figure = number(baseline[metric], baseline["std"])
    return Headline(
        group,
        f"{name_of(metric)} {figure}" if has(baseline, metric) else ABSENT,
        best["row"] if best else "",
        gain(best) if best else "",
        number(best["published_gain"], signed=True) if best else "",
    )


@dataclass(frozen=True)
class Other:
    """Another study, or scale, that has results here."""

    study: str
    title: str
    scale: str
    address: str
    """Of its page, from this one; empty where it has none."""
    state: str
    """As its page says it; without a page the command that makes one."""
    headlines: Sequence[Headline] = ()
    """Of its first table."""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    """Of all its tables."""


def others(study: str, scale: str, library: Library) -> list[Other]:
    """Return every other folder of results here, by study and scale."""
    found = sorted(path for path in RESULTS.glob("*/*") if path.is_dir())
    known = library.names("studies")
    return [
        _other(path, library)
        for path in found
        if path.parent.name in known and path != study_folder(study, scale)
    ]


def _other(folder: Path, library: Library) -> Other:
    study, scale = folder.parent.name, folder.name
    page = folder / PAGE
    title = library.study(study, "report").title
    if not page.exists():
        return Other(study, title, scale, "", f"kd report {study} --scale {scale}")
    lines = _lines(folder)
    first = [line for line in lines if line["table"] == lines[0]["table"]]
    return Other(
        study,
        title,
        scale,
        f"../../{study}/{scale}/{PAGE}",
        _state(page),
        [_headline(group, members) for group, members in grouped(first, "group").items()],
        Counter(line["verdict"] for line in lines if line["verdict"]),
    )


def _lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the frame that was published in a folder, in part or whole."""
    paths = [folder / "table.csv", folder / PARTIAL / "table.csv"]
    newest = max(filter(Path.exists, paths), key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return []
    frame = pd.read_csv(newest, dtype=dict.fromkeys(WORDS, str))
    if not {*WORDS, *GAIN} <= set(frame.columns):  # as an earlier version wrote it
        return []
    return lines_of(frame.fillna(dict.fromkeys(WORDS, "")))


def _state(page: Path) -> str:
    """Return what a page says of itself."""
    with page.open(encoding="utf-8") as stream:
        found = STATE.search(stream.read(HEAD))
    return html.unescape(found[1]) if found else ""
