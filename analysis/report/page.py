"""Writes a study's report: what was gathered, set as one HTML file that needs nothing else."""

import base64
import hashlib
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.figures.planning import PlannedFigure, plan_figures
from analysis.report import detail, graph, intervals, overview, records, summary
from analysis.report.grids import TableView, table_views
from analysis.report.pictures import Caption, Picture, caption, inline, picture
from analysis.tables.rows import ResultRow
from analysis.tables.write import PARTIAL, results
from kd.common.durations import duration
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import Plan
from kd.config.run import study_folder
from kd.monitoring.table import summary_line
from kd.records.provenance import commit, now

LONG = 30
"""Rows from which a table that is wider than the window scrolls inside it."""
EVERY = 30
"""Seconds after which an open page of a study that is not finished reads itself again."""


@dataclass(frozen=True)
class Request:
    """What the page is of, as it was asked for."""

    study: str
    scale: str
    seeds: int | None = None
    tables: Sequence[str] | None = None

    @property
    def arguments(self) -> str:
        """The request as arguments of ``kd``."""
        words = [self.study, "--scale", self.scale]
        words += ["--seeds", str(self.seeds)] if self.seeds else []
        return shlex.join(words + (["--tables", *self.tables] if self.tables else []))

    @property
    def config(self) -> str:
        """The request as arguments of ``snakemake``."""
        words = [f"study={self.study}", f"scale={self.scale}"]
        words += [f"seeds={self.seeds}"] if self.seeds else []
        words += [f"tables={','.join(self.tables)}"] if self.tables else []
        return shlex.join(["--config", *words])

    @property
    def folder(self) -> Path:
        return study_folder(self.study, self.scale)


@dataclass(frozen=True)
class Figure:
    """A figure of the study as the page shows it; one that is not made has no caption."""

    name: str
    title: str
    caption: Caption | None
    pictures: list[Picture]


class Page:
    """Everything that the templates ask for."""

    def __init__(self, request: Request, planned: Plan, library: Library, every: int) -> None:
        self.request, self.plan, self.library, self.every = request, planned, library, every
        self.records, self.trouble = records.gather(planned)
        self.written, self.commit = now(), commit()

    def __str__(self) -> str:
        return f"{self.path}: {self.state}"

    @property
    def path(self) -> Path:
        return self.request.folder / summary.PAGE

    @cached_property
    def results(self) -> list[ResultRow]:
        """The result rows of the plan."""
        return results(self.plan)

    @cached_property
    def tables(self) -> list[TableView]:
        kinds = {record.directory: record.kind for record in self.runs}
        return table_views(self.results, kinds)

    @cached_property
    def runs(self) -> list[records.Record]:
        return list(self.records.values())

    @property
    def counts(self) -> dict[str, int]:
        return records.counts(self.records)

    @property
    def done(self) -> int:
        return self.counts.get("done", 0)

    @property
    def partial(self) -> bool:
        return self.done < len(self.runs)

    @property
    def state(self) -> str:
        """How many runs are in which state, as ``kd status`` says it."""
        return summary_line([record.status for record in self.runs])

    @cached_property
    def figures(self) -> list[Figure]:
        found = plan_figures(self.plan, self.request.study, self.request.scale).values()
        return [_figure(each) for each in found]

    @cached_property
    def gains(self) -> dict[str, Picture | None]:
        """The figure of gains of each table, finished or so far; None where it is not drawn."""
        folder = self.request.folder / (PARTIAL if self.partial else "") / "gains"
        titles = self.plan.study.tables
        keys = dict.fromkeys(row.table for row in self.plan.rows)
        return {titles[key].title: picture(folder / f"{key}.png") for key in keys}

    @cached_property
    def graph(self) -> graph.Graph:
        return graph.graph(self.plan, self.records, self.library)

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        return detail.data(self.plan, self.tables, self.records)

    def render(self) -> str:
        """Return the page."""
        style, script = _source("style.css"), _source("report.js")
        policy = (
            f"default-src 'none'; img-src data:; style-src {_allowed(style)}; "
            f"script-src {_allowed(script)}; base-uri 'none'; form-action 'none'"
        )
        template = ENVIRONMENT.get_template("page.html")
        return template.render(page=self, style=style, script=script, policy=policy)


def write(request: Request, planned: Plan, library: Library, every: int = EVERY) -> Page:
    """Write a study's page as it is now, and return it."""
    page = Page(request, planned, library, every)
    write_text(page.path, page.render())
    return page


def watch(request: Request, planned: Plan, library: Library, every: int) -> None:
    """Write the page again every so many seconds.

    It ends with the last run, with Ctrl-C, and with the process that started it.
    """
    parent = os.getppid()
    try:
        while os.getppid() == parent:
            page = write(request, planned, library, max(every, 1))
            print(page, flush=True)
            if not page.partial:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _figure(planned: PlannedFigure) -> Figure:
    told = caption(planned.folder / "caption.md")
    found = [picture(Path(path)) for path in planned.pictures] if told else []
    title = told.title if told else planned.settings.title
    return Figure(planned.name, title, told, [each for each in found if each])


def _source(name: str) -> Markup:
    """Return a style sheet or script of this package, which stands in the page as it is."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _allowed(source: str) -> str:
    """Return the one source that a policy allows: that of this content."""
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
    axis=intervals, headlines=summary.headlines, others=summary.others, overview=overview,
    duration=duration, inline=inline, LONG=LONG, level_names=graph.LEVELS, node=graph,
)  # fmt: skip
