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
from analysis.report import (
    detail,
    downloads,
    graph,
    intervals,
    methods_text,
    overview,
    records,
    summary,
)
from analysis.report.grids import TableView, table_views
from analysis.report.pictures import Caption, PagePicture, caption, inline, picture
from analysis.runs.titles import scale_title, table_title
from analysis.tables.miniature import warning
from analysis.tables.rows import ResultRow
from analysis.tables.write import PARTIAL, results
from kd.common.durations import duration
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import Plan
from kd.config.run import study_folder
from kd.config.selection import UNCHANGED, StudyOptions
from kd.monitoring.status import STATES
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
    question: str
    title: str
    caption: Caption | None
    pictures: list[PagePicture]
    files: list[str]
    """Addresses of its files, relative to the page."""

    @property
    def is_drawn(self) -> bool:
        """True if it has a caption and pictures."""
        return bool(self.caption and self.pictures)


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
        states = {record.directory: record.state for record in self.runs}
        return table_views(self.results, states)

    @cached_property
    def runs(self) -> list[records.RunRecord]:
        """All runs of the study."""
        return list(self.records.values())

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs in each state that occurs."""
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
        return [_figure(figure, self.request.folder) for figure in planned.values()]

    @property
    def tables_folder(self) -> Path:
        """The folder of the tables, finished or partial."""
        return self.request.folder / (PARTIAL if self.partial else "")

    @cached_property
    def gains(self) -> list[PageFigure]:
        """The gain figures of the tables that have one."""
        keys = dict.fromkeys(row.table for row in self.plan.rows)
        figures = [self._gain_figure(key) for key in keys]
        return [figure for figure in figures if figure.pictures]

    def _gain_figure(self, key: str) -> PageFigure:
        paths = [self.tables_folder / "gains" / f"{key}.{kind}" for kind in ("png", "pdf")]
        title = f"Gains: {table_title(self.plan.study.tables[key])}"
        png = picture(paths[0])
        files = downloads.existing(paths, self.request.folder)
        question = "How large is the gain of each method?"
        return PageFigure(f"gains-{key}", question, title, None, [png] if png else [], files)

    @property
    def downloads(self) -> list[downloads.Download]:
        """The tables of the page as files."""
        name = f"{self.request.study}-{self.request.scale}"
        return downloads.tables(self.results, self.tables_folder, self.request.folder, name)

    @property
    def warning(self) -> str:
        """The warning on results below the scale of the paper; empty at that scale."""
        return warning(self.results)

    @property
    def differences(self) -> list[str]:
        """Sentences on the parts that the scale replaces or changes."""
        swaps = dict.fromkeys(swap for row in self.results for swap in row.stand_ins)
        changed = {row.detector for row in self.plan.rows} & {*self.plan.scale.detectors}
        return [
            *([f"Stand-ins: {', '.join(swaps)}."] if swaps else []),
            *(["Necks and heads are narrower and fit small images."] if changed else []),
        ]

    @cached_property
    def methods(self) -> str:
        """The paragraph on how the results were computed."""
        return methods_text.paragraph(self.plan, self.runs, self.results, self.library)

    @cached_property
    def references(self) -> str:
        """BibTeX of the study, its methods and this project."""
        return methods_text.bibtex(self.plan, self.library)

    @cached_property
    def graph(self) -> graph.StudyGraph:
        """The graph of the study."""
        return graph.study_graph(self.plan, self.records, self.library)

    @property
    def data(self) -> dict[str, Any]:
        """The data of the page's script."""
        return detail.data(self.plan, self.results, self.tables, self.records)

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


def _figure(planned: PlannedFigure, page_folder: Path) -> PageFigure:
    name, question = planned.name, planned.settings.question
    text = caption(planned.folder / "caption.md")
    if text is None:
        return PageFigure(name, question, planned.titled(planned.settings.title), None, [], [])
    pictures = [picture(Path(path)) for path in planned.pictures]
    paths = [Path(path) for path in planned.outputs if not path.endswith(".md")]
    files = downloads.existing(paths, page_folder)
    images = [image for image in pictures if image]
    return PageFigure(name, question, planned.titled(text.title), text, images, files)


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
ENVIRONMENT.filters.update(
    slug=lambda state: state.replace(" ", "-"),
    capitalize_first=lambda text: text[:1].upper() + text[1:],
)
ENVIRONMENT.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
ENVIRONMENT.globals.update(
    axis=intervals,
    has_largest=summary.has_largest,
    summarize=summary.summarize,
    others=summary.others,
    image_mark=Markup("<sup>i</sup>"),
    overview=overview,
    states=STATES,
    scale_title=scale_title,
    file_kinds=downloads.by_kind,
    duration=duration,
    inline=inline,
    SCROLL_ROWS=SCROLL_ROWS,
    level_names=graph.LEVELS,
    layout=graph,
)
