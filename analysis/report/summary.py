"""The front of the page: the headline of each table, and the other studies with results."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from analysis.report.grids import TableView, count_verdicts
from analysis.tables.csv_file import read_csv
from analysis.tables.formatting import ABSENT, gain_text, metric_title, number
from analysis.tables.miniature import printable
from analysis.tables.rows import ResultRow, by_group
from analysis.tables.write import PARTIAL
from kd.common.results import RESULTS
from kd.config.library import Library
from kd.config.run import study_folder

PAGE = "report.html"
STATE = re.compile(r'<meta name="kd-state" content="([^"]*)">')
HEAD = 4000
"""Characters at the start of another page that contain its state."""


class Headline(NamedTuple):
    """A detector's rows in short, in the text of the table."""

    group: str
    baseline: str
    largest: str
    """The distilled row with the largest gain; empty if none has an interval over seeds."""
    gain: str
    gains: int
    """Number of gains of distilled rows, which the largest was chosen from."""
    range: str
    """The smallest and the largest of these gains; empty without one."""
    published: str


def summarize(tables: Iterable[TableView]) -> list[tuple[TableView, list[Headline]]]:
    """Return each table with the headlines of its groups."""
    return [(table, _headlines(table)) for table in tables]


def has_largest(groups: Iterable[Sequence[Headline]]) -> bool:
    """Return True if a headline names the largest gain of its group."""
    return any(headline.largest for headlines in groups for headline in headlines)


def _headlines(table: TableView) -> list[Headline]:
    return [_headline(group, [row.result for row in rows]) for group, rows in table.groups.items()]


def _headline(group: str, rows: Sequence[ResultRow]) -> Headline:
    rows = printable(rows)
    gains = [(row.gain.mean, row) for row in rows if row.gain and row.kind == "distilled"]
    # Gains of one seed are not compared: the largest may be so by chance.
    compares = any(row.gain and row.gain.simultaneous for _, row in gains)
    largest = max(gains, key=lambda pair: pair[0])[1] if compares else None
    baseline = next((row for row in rows if row.kind == "baseline"), rows[0])
    ap = number(baseline.headline, baseline.std)
    return Headline(
        group,
        ABSENT if ap == ABSENT else f"{metric_title(baseline.metric)} {ap}",
        largest.label if largest else "",
        gain_text(largest.gain) if largest else "",
        len(gains),
        _range([mean for mean, _ in gains]),
        number(largest.published_gain, signed=True) if largest else "",
    )


def _range(gains: Sequence[float]) -> str:
    if not gains:
        return ""
    low, high = (number(end, signed=True) for end in (min(gains), max(gains)))
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class OtherStudy:
    """Another study, or scale, with results in this place."""

    study: str
    title: str
    scale: str
    address: str
    """Address of its page relative to this one; empty without a page."""
    state: str
    """The state on its page; without a page the command that writes one."""
    headlines: Sequence[Headline] = ()
    """Headlines of its first table."""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    """Number of rows of all its tables by verdict."""


def others(study: str, scale: str, library: Library) -> list[OtherStudy]:
    """Return every other folder of results, by study and scale."""
    folders = sorted(path for path in RESULTS.glob("*/*") if path.is_dir())
    studies = library.names("studies")
    return [
        _other(path, library)
        for path in folders
        if path.parent.name in studies and path != study_folder(study, scale)
    ]


def _other(folder: Path, library: Library) -> OtherStudy:
    study, scale = folder.parent.name, folder.name
    page = folder / PAGE
    title = library.study(study, "report").title
    if not page.exists():
        return OtherStudy(study, title, scale, "", f"kd report {study} --scale {scale}")
    rows = _published_rows(folder)
    first_table = [row for row in rows if row.table == rows[0].table]
    return OtherStudy(
        study,
        title,
        scale,
        f"../../{study}/{scale}/{PAGE}",
        _state(page),
        [_headline(group, members) for group, members in by_group(first_table).items()],
        count_verdicts(rows),
    )


def _published_rows(folder: Path) -> list[ResultRow]:
    """Read the rows of the newest ``table.csv`` of a study's folder, partial or complete."""
    paths = [folder / "table.csv", folder / PARTIAL / "table.csv"]
    newest = max(filter(Path.exists, paths), key=lambda path: path.stat().st_mtime, default=None)
    return read_csv(newest) if newest else []


def _state(page: Path) -> str:
    """Read the state from the head of a page."""
    with page.open(encoding="utf-8") as stream:
        state = STATE.search(stream.read(HEAD))
    return html.unescape(state[1]) if state else ""
