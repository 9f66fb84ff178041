"""The front of the page: what each table says in a line, and the other studies of this place."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from analysis.report.grids import RowView, TableView
from analysis.report.intervals import has
from analysis.sheets import ABSENT, gain, name_of, number
from kd.settings.library import Library
from kd.settings.run import RESULTS, study_folder

PAGE = "report.html"
STATE = re.compile(r'<meta name="kd-state" content="([^"]*)">')
HEAD = 4000
"""Characters of another page in which its state stands."""


class Headline(NamedTuple):
    """A detector's rows in short; the texts are as the table prints them."""

    group: str
    baseline: str
    best: RowView | None
    """The distilled row of the largest gain."""
    gain: str
    published: str


def headlines(table: TableView) -> list[Headline]:
    """Return the headline of each group of a table."""
    return [_headline(group, rows) for group, rows in table.groups.items()]


def _headline(group: str, rows: Sequence[RowView]) -> Headline:
    measured = [row for row in rows if has(row.line, "gain")]
    best = max(measured, key=lambda row: float(row.line["gain"]), default=None)
    baseline = next((row.line for row in rows if row.line["kind"] == "baseline"), rows[0].line)
    metric = baseline["metric"]
    figure = number(baseline[metric], baseline["std"])
    return Headline(
        group,
        f"{name_of(metric)} {figure}" if has(baseline, metric) else ABSENT,
        best,
        gain(best.line) if best else "",
        number(best.line["published_gain"], signed=True) if best else "",
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
    return Other(study, title, scale, f"../../{study}/{scale}/{PAGE}", _state(page))


def _state(page: Path) -> str:
    """Return what a page says of itself."""
    with page.open(encoding="utf-8") as stream:
        found = STATE.search(stream.read(HEAD))
    return html.unescape(found[1]) if found else ""
