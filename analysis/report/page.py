"""The report of a study: one self-contained HTML file."""

import base64
import hashlib
import logging
import os
import shlex
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.figures.planning import PlannedFigure, plan_figures
from analysis.report import detail, graph, intervals, overview, records, summary
from analysis.report.grids import TableView, table_views
from analysis.report.pictures import Caption, PagePicture, caption, inline, picture
from analysis.tables.rows import ResultRow
from analysis.tables.write import PARTIAL, results
from kd.common.durations import duration
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import Plan
from kd.config.run import study_folder
from kd.config.selection import UNCHANGED, StudyOptions
from kd.monitoring.table import summary_line
from kd.records.provenance import commit, now
from kd.workflow.options import study_arguments, study_config

SCROLL_ROWS = 30
"""Rows from which a table that is wider than the window gets a scroll box."""
REFRESH_SECONDS = 30
"""Seconds after which the open page of an unfinished study reloads itself."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportRequest:
    """The study of a report, its scale, and its options."""

    study: str
    scale: str
    options: StudyOptions = UNCHANGED

    @property
    def arguments(self) -> str:
        """The request as arguments of ``kd``."""
        return shlex.join(study_arguments(self.study, self.scale, self.options))

    @property
    def config(self) -> str:
        """The request as arguments of ``snakemake``."""
        return shlex.join(study_config(self.study, self.scale, self.options))

    @property
    def folder(self) -> Path:
        """The folder of the report."""
        return study_folder(self.study, self.scale)


@dataclass(frozen=True)
class PageFigure:
    """A figure of the study on the page; one that was not drawn yet has no caption."""

    name: str
    title: str
    caption: Caption | None
    pictures: list[PagePicture]


class Page:
    """The content of a report, as its templates read it."""

    def __init__(self, request: ReportRequest, planned: Plan, library: Library, every: int) -> None:
        """Read the state of all runs; ``every``: seconds between reloads of the page."""
        self.request, self.plan, self.library, self.every = request, planned, library, every
        self.records, self.queue_problem = records.gather(planned)
        self.written, self.commit = now(), commit()

    def __str__(self) -> str:
        """Return path and state in one line."""
        return f"{self.path}: {self.state}"

    @property
    def path(self) -> Path:
        """The file of the report."""
        return self.request.folder / summary.PAGE

    @cached_property
    def results(self) -> list[ResultRow]:
        """The result rows of the plan."""
        return results(self.plan)

    @cached_property
    def tables(self) -> list[TableView]:
        """The tables of the study."""
        kinds = {record.directory: record.kind for record in self.runs}
        return table_views(self.results, kinds)

    @cached_property
    def runs(self) -> list[records.RunRecord]:
        """All runs of the study."""
        return list(self.records.values())

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs of each kind."""
        return records.counts(self.records)

    @property
    def done(self) -> int:
        """Number of finished runs."""
        return self.counts.get("done", 0)

    @property
    def partial(self) -> bool:
        """True while a run of the study is missing."""
        return self.done < len(self.runs)

    @property
    def state(self) -> str:
        """Number of runs in each state, in the words of ``kd status``."""
        return summary_line([record.status for record in self.runs])

    @cached_property
    def figures(self) -> list[PageFigure]:
        """The figures that the study plans."""
        planned = plan_figures(self.plan, self.request.study, self.request.scale)
        return [_figure(figure) for figure in planned.values()]

    @cached_property
    def gains(self) -> dict[str, PagePicture | None]:
        """The gain figure of each table, finished or partial; None if it was not drawn."""
        folder = self.request.folder / (PARTIAL if self.partial else "") / "gains"
        titles = self.plan.study.tables
        keys = dict.fromkeys(row.table for row in self.plan.rows)
        return {titles[key].title: picture(folder / f"{key}.png") for key in keys}

    @cached_property
    def graph(self) -> graph.StudyGraph:
        """The graph of the study."""
        return graph.study_graph(self.plan, self.records, self.library)

    @property
    def data(self) -> dict[str, Any]:
        """The data of the page's script."""
        return detail.data(self.plan, self.tables, self.records)

    def render(self) -> str:
        """Return the page as HTML."""
        style, script = _source("style.css"), _source("report.js")
        policy = (
            f"default-src 'none'; img-src data:; style-src {_allowed(style)}; "
            f"script-src {_allowed(script)}; base-uri 'none'; form-action 'none'"
        )
        template = ENVIRONMENT.get_template("page.html")
        return template.render(page=self, style=style, script=script, policy=policy)


def write(
    request: ReportRequest, planned: Plan, library: Library, every: int = REFRESH_SECONDS
) -> Page:
    """Write a study's page in its present state, and return it."""
    page = Page(request, planned, library, every)
    write_text(page.path, page.render())
    return page


def watch(request: ReportRequest, planned: Plan, library: Library, every: int) -> None:
    """Write the page again every ``every`` seconds until all runs are done.

    It also ends with Ctrl-C, and with the process that started it.
    """
    parent = os.getppid()
    try:
        while os.getppid() == parent:
            page = write(request, planned, library, max(every, 1))
            logger.info("%s", page)
            if not page.partial:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _figure(planned: PlannedFigure) -> PageFigure:
    text = caption(planned.folder / "caption.md")
    if text is None:
        return PageFigure(planned.name, planned.settings.title, None, [])
    pictures = [picture(Path(path)) for path in planned.pictures]
    return PageFigure(planned.name, text.title, text, [image for image in pictures if image])


def _source(name: str) -> Markup:
    """Return a style sheet or script of this package, which the page embeds unescaped."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _allowed(source: str) -> str:
    """Return the source expression of a content security policy that allows only this content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


ENVIRONMENT = Environment(
    loader=PackageLoader("analysis.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
ENVIRONMENT.globals.update(
    axis=intervals,
    headlines=summary.headlines,
    others=summary.others,
    overview=overview,
    duration=duration,
    inline=inline,
    SCROLL_ROWS=SCROLL_ROWS,
    level_names=graph.LEVELS,
    layout=graph,
)
