"""The blocks of ``docs/evidence.md``: tables and figures from the data that lie beside it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis.plotting import style
from analysis.runs.titles import method_name
from analysis.statistics.power import detectable
from analysis.statistics.seeds import SIGNIFICANT, mean_std
from analysis.tables.formatting import amount, number
from analysis.tables.gain_figure import plot_gains
from analysis.tables.markdown import bullets, grids
from analysis.tables.printed import Grid, Section, printed_tables
from analysis.tables.rows import ResultRow
from docs.build.evidence import causes, claims, records, sweeps
from docs.build.evidence.orderings import compared, stated
from kd.config.library import Library
from kd.config.plan import Plan

PICTURES = Path("docs/figures/evidence")
PILOTS = ("pilot", "pilot_two_stage")
NO_RESULTS = frozenset({*PILOTS, "weights"})
"""Tables on seeds of their own, which have blocks of their own form."""
DETECTORS = {"": "retinanet", "_two_stage": "faster_rcnn"}
"""By what the names of their figures end in."""
SEEDS = (3, 5, 8, 10)
"""For which it is said what they can see."""
METHODS = 12
"""Of the largest table: by so much its smallest p is multiplied."""
NOT_RUN = "Not run yet."
HOURS = 3600


class Data(NamedTuple):
    """The stored results of a study: plan, rows, and frames of runs and distillation terms."""

    study: str
    plan: Plan
    rows: list[ResultRow]
    runs: pd.DataFrame
    terms: pd.DataFrame


def load(study: str, plan: Plan) -> Data:
    """Read what was kept of a study."""
    runs, terms = (records.read(f"{study}-{part}") for part in ("runs", "terms"))
    return Data(study, plan, records.read_rows(study), runs, terms)


def blocks(data: Data) -> dict[str, Callable[[], str]]:
    """Return, by name, what makes the text of each block of a study, and draws its figure."""
    found: dict[str, Callable[[], str]] = {}
    for key, table in data.plan.study.tables.items():
        rows = [row for row in data.rows if row.table == table.title]
        if rows and key not in NO_RESULTS:
            found[key] = partial(_table, rows, data.study, key)
    for suffix, detector in DETECTORS.items():
        found[f"causes{suffix}"] = partial(_causes, data, suffix, detector)
    makers = {"power": _power, "orderings": _orderings, "terms": _terms, "weights": _weights}
    found |= {name: partial(make, data) for name, make in (makers | {"price": _price}).items()}
    return {f"{data.study}-{name}": make for name, make in found.items()}


def _causes(data: Data, suffix: str, detector: str) -> str:
    """Return what is known of the methods in a detector's first table, of which the figures are."""
    first = next((row.table for row in data.plan.rows if row.detector == detector), None)
    terms = data.terms[data.terms["table"] == first]
    return _grid(causes.table(data.study, suffix, detector, terms))


def _table(rows: list[ResultRow], study: str, key: str) -> str:
    """Return a table of results, the figure of its gains, and what can be said of them."""
    (sheet,) = printed_tables(rows)
    (section,) = sheet.results.sections  # of its one detector, which the page names above it
    results = sheet.results._replace(sections=[section._replace(title="")])
    picture = _picture(plot_gains(rows), sheet.title, f"{study}-{key}")
    said = _grid([*claims.table(rows)])
    return "\n\n".join([*grids(results), *bullets(sheet.notes), picture, said])


def _picture(figure: Figure, title: str, name: str) -> str:
    """Save a figure beside the page, and return the line that shows it."""
    path = PICTURES / name
    style.save(figure, path)
    path.with_suffix(".pdf").unlink()
    return f"![{title}](figures/evidence/{name}.png)"


def _grid(lines: list[dict[str, str]]) -> str:
    if not lines:
        return NOT_RUN
    rows = [[*line.values()] for line in lines]
    return "\n\n".join(grids(Grid([*lines[0]], [Section("", rows)])))


def _title(detector: object) -> str:
    return Library().detector(str(detector), "evidence").title


def _power(data: Data) -> str:
    """Return what gains so many seeds find, from baselines of the pilot's seeds."""
    alone = data.runs[data.runs["method"] == "baseline"]
    pilot = alone[alone["table"].isin(PILOTS)]
    lines = []
    for detector, runs in pilot.groupby("detector"):
        mean, std, count = mean_std(runs["AP"])
        assert std is not None
        for seeds in SEEDS:
            spread = std * 2**0.5
            found = [
                detectable(spread, seeds, level) for level in (SIGNIFICANT, SIGNIFICANT / METHODS)
            ]
            lines.append(
                {
                    "Detector": _title(detector),
                    "Baselines": str(count),
                    "AP": number(mean or 0.0, std),
                    "Seeds": str(seeds),
                    "Gain that is found in 4 of 5 studies": number(found[0] or 0.0),
                    f"as the first of {METHODS}": number(found[1] or 0.0),
                }
            )
    return _grid(lines)


def _orderings(data: Data) -> str:
    library = Library()
    asked = [each for each in stated(library) if each.study == data.study]
    lines = []
    for line in compared(data.runs, asked).to_dict("records") if asked else ():
        ends = f" ({number(line['low'], signed=True)} to {number(line['high'], signed=True)})"
        better, worse = (method_name(line[side], library) for side in ("better", "worse"))
        lines.append(
            {
                "Detector": _title(line["detector"]),
                "Row": f"{better} over {worse}",
                "Published": number(line["published"], signed=True),
                "Seeds": str(line["seeds"]),
                "Here": number(line["difference"], line["std"], signed=True)
                + (ends if line["seeds"] > 1 else ""),
                "p, corrected": claims.probability(line["p_holm"]),
                "Holds": line["holds"],
            }
        )
    return _grid(lines)


def _terms(data: Data) -> str:
    """Return what each distillation term weighed in a method's first table, means over seeds."""
    library = Library()
    default = data.terms[data.terms["setting"] == ""]
    first = default.groupby(["detector", "method"])["table"].transform("first")
    lines = []
    for (detector, method, term), runs in default[default["table"] == first].groupby(
        ["detector", "method", "term"], sort=False
    ):
        lines.append(
            {
                "Detector": _title(detector),
                "Row": method_name(str(method), library),
                "Term": str(term),
                "Share of the loss, %": amount(100 * runs["share"].mean()),
                **{
                    title: claims.ratio(runs[column].mean())
                    for title, column in (
                        ("Gradient, first steps", "gradient_first"),
                        ("on average", "gradient"),
                        ("last step", "gradient_last"),
                    )
                },
            }
        )
    return _grid(lines)


def _weights(data: Data) -> str:
    """Return the gains of methods by the factor of their weights, and the figure of these."""
    runs, terms = (of[of["table"] == "weights"] for of in (data.runs, data.terms))
    found = sweeps.gains(runs, (row for row in data.plan.rows if row.table == "weights"))
    if not found:
        return NOT_RUN
    told = _grid(sweeps.table(found, terms))
    title = data.plan.study.tables["weights"].title
    return f"{told}\n\n{_picture(sweeps.plot(found), title, f'{data.study}-weights')}"


def _price(data: Data) -> str:
    """Return what trainings took beside their baselines, and all of the study together.

    A run that found its teacher's outputs ready does not have its method's price, and one on
    another processor is another training.
    """
    library, lines = Library(), []
    every = data.runs.drop_duplicates(["run", "started"])
    cached = every["teacher_cache_mb"].fillna(0) > 0
    default = every["setting"] == ""
    shown = every[~every["table"].isin(NO_RESULTS) & default & ~cached]
    for (detector, processor), runs in shown.groupby(["detector", "cpu"], sort=False):
        alone = runs[runs["method"] == "baseline"]
        for method, of in runs.groupby("method", sort=False):
            role = {"teacher": "Teacher", "baseline": "Student"}.get(str(method))
            lines.append(
                {
                    "Detector": _title(detector),
                    "Processor": str(processor).partition(" (")[0],
                    "Row": role or method_name(str(method), library),
                    "Runs": str(len(of)),
                    "Seconds a run": f"{of['seconds'].mean():.0f}",
                    "over the student's": amount(of["seconds"].mean() / alone["seconds"].mean()),
                    "Images/s": amount(of["images_per_second"].mean()),
                    "Peak memory, MB": f"{of['peak_memory_mb'].mean():.0f}",
                }
            )
    hours = every["seconds"].sum() / HOURS
    told = f"Together {len(every)} trainings of {amount(hours)} hours, each on one thread. "
    processors = sorted({*(shown["cpu"] + " with " + shown["instructions"])})
    return "\n\n".join([_grid(lines), f"{told}Processors: {', '.join(processors)}."])
