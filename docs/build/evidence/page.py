"""Blocks of the page of evidence: tables and pictures from the data in ``docs/evidence``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis.plotting import style
from analysis.runs.titles import method_name
from analysis.statistics.pooled_power import detectable_gain, pooled_seeds_needed
from analysis.statistics.power import detectable
from analysis.statistics.seeds import SIGNIFICANT, WORTH_FINDING, mean_std
from analysis.tables.formatting import amount, number
from analysis.tables.gain_figure import plot_gains
from analysis.tables.markdown import bullets, grids
from analysis.tables.printed import Grid, Section, printed_tables
from analysis.tables.rows import ResultRow
from analysis.tables.sizes import size_cells
from docs.build.evidence import causes, changes, claims, records, sweeps
from docs.build.evidence.orderings import (
    compare_orderings,
    is_alike,
    measured_text,
    published_text,
    read_orderings,
)
from kd.config.library import Library
from kd.config.plan import Plan

PICTURES = Path("docs/figures/evidence")
PILOTS = ("pilot", "pilot_two_stage")
NO_RESULTS = frozenset({*PILOTS, "weights"})
"""Tables with other seeds, which have separate blocks."""
DETECTORS = {"": "retinanet", "_two_stage": "faster_rcnn"}
"""Detectors by the end of the names of their figures."""
SEEDS = (3, 5, 8, 10)
"""Numbers of seeds in the block about power."""
METHODS = 12
"""Methods in the largest table, the factor of its smallest p by Holm's correction."""
NOT_RUN = "Not run yet."
ORDERS = {
    True: "Published for the same detector, teacher and student as the study names:",
    False: "Published for another detector, teacher or student:",
}
"""Headings of orders, by the conditions that they were published for."""
HOURS = 3600
TIMES = "Time, baseline = 1"
"""Title of the column of training times relative to the baseline."""


class StudyData(NamedTuple):
    """The stored results of a study: plan, rows, and frames of runs and distillation terms."""

    study: str
    plan: Plan
    rows: list[ResultRow]
    runs: pd.DataFrame
    terms: pd.DataFrame


def load(study: str, plan: Plan) -> StudyData:
    """Return the stored results of a study."""
    runs, terms = (records.read(f"{study}-{part}") for part in ("runs", "terms"))
    return StudyData(study, plan, records.read_rows(study), runs, terms)


def blocks(data: StudyData) -> dict[str, Callable[[], str]]:
    """Return, by name, functions that write the picture of a study's block and return its text."""
    writers: dict[str, Callable[[], str]] = {}
    for key, table in data.plan.study.tables.items():
        rows = [row for row in data.rows if row.table == table.title]
        if rows and key not in NO_RESULTS:
            writers[key] = partial(_table, rows, data.study, key)
    for suffix, detector in DETECTORS.items():
        writers[f"causes{suffix}"] = partial(_causes, data, suffix, detector)
    writers |= {name: partial(write, data) for name, write in SHARED.items()}
    return {f"{data.study}-{name}": write for name, write in writers.items()}


def _causes(data: StudyData, suffix: str, detector: str) -> str:
    """Return the possible causes of gains in a detector's first table, which has the figures."""
    first = next((row.table for row in data.plan.rows if row.detector == detector), None)
    terms = data.terms[data.terms["table"] == first]
    return _grid(causes.table(data.study, suffix, detector, terms))


def _table(rows: list[ResultRow], study: str, key: str) -> str:
    """Return a table of results, the picture of its gains, and their verdicts."""
    (printed,) = printed_tables(rows)
    (section,) = printed.results.sections  # one detector, which the page names in a heading
    results = printed.results._replace(sections=[section._replace(title="")])
    alt_text = f"Gains of each method with their intervals: {printed.title}"
    picture = _picture(plot_gains(rows), alt_text, f"{study}-{key}")
    verdicts = _grid([*claims.table(rows)])
    return "\n\n".join([*grids(results), *bullets(printed.notes), picture, verdicts])


def _picture(figure: Figure, alt_text: str, name: str) -> str:
    """Write a picture for the page, and return the line that shows it."""
    style.save(figure, PICTURES / name, ("png",))
    return f"![{alt_text}](../figures/evidence/{name}.png)"


def _grid(lines: list[dict[str, str]]) -> str:
    if not lines:
        return NOT_RUN
    rows = [[*line.values()] for line in lines]
    return "\n\n".join(grids(Grid([*lines[0]], [Section("", rows)])))


def _title(detector: object) -> str:
    return Library().detector(str(detector), "evidence").title


def _power(data: StudyData) -> str:
    """Return the gains that numbers of seeds detect, from the baselines of the pilot's seeds."""
    baselines = data.runs[data.runs["method"] == "baseline"]
    pilot = baselines[baselines["table"].isin(PILOTS)]
    lines = []
    for detector, runs in pilot.groupby("detector"):
        mean, std, count = mean_std(runs["AP"])
        assert std is not None
        for seeds in SEEDS:
            spread = std * 2**0.5
            gains = [
                detectable(spread, seeds, level) for level in (SIGNIFICANT, SIGNIFICANT / METHODS)
            ]
            lines.append(
                {
                    "Detector": _title(detector),
                    "Baselines": str(count),
                    "AP": number(mean or 0.0, std),
                    "Seeds": str(seeds),
                    "Detectable gain": number(gains[0] or 0.0),
                    f"Detectable gain, first of {METHODS}": number(gains[1] or 0.0),
                }
            )
    return _grid(lines)


def _verdicts(data: StudyData) -> str:
    """Return the verdicts that the rule of the design and today's do not share."""
    titles = {table.title for key, table in data.plan.study.tables.items() if key not in NO_RESULTS}
    rows = [row for row in data.rows if row.table in titles]
    lines = [*changes.table(rows)]
    return "\n\n".join([*([_grid(lines)] if lines else []), changes.summary(rows)])


def _detectable(data: StudyData) -> str:
    """Return the gains that numbers of seeds detect, with the deviation in each table."""
    lines = []
    for key, table in data.plan.study.tables.items():
        cells = [row.cell for row in data.rows if row.table == table.title and row.cell]
        if not cells or key in NO_RESULTS:
            continue
        std, methods = cells[0].residual_std, cells[0].planned_rows
        gains = {f"{seeds} seeds": detectable_gain(std, seeds, methods) for seeds in SEEDS}
        lines.append(
            {
                "Table": table.title,
                "Gains": str(methods),
                "Deviation": f"{std:.2f}",
                **{seeds: number(gain) for seeds, gain in gains.items()},
                f"Seeds for {WORTH_FINDING:g} AP": str(pooled_seeds_needed(std, methods)),
            }
        )
    return _grid(lines)


def _orderings(data: StudyData) -> str:
    """Return the orders published for the measured conditions, and those for others."""
    library = Library()
    planned = [ordering for ordering in read_orderings(library) if ordering.study == data.study]
    if not planned:
        return NOT_RUN
    tests = compare_orderings(data.runs, planned).to_dict("records")
    grids: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for ordering, test in zip(planned, tests, strict=True):
        grids[is_alike(ordering, data.plan)].append(
            {
                "Order": " over ".join(
                    method_name(method, library) for method in (ordering.better, ordering.worse)
                ),
                "Published for": published_text(ordering, data.plan, library),
                "Measured for": measured_text(ordering, data.plan, library),
                "Published": number(ordering.published, signed=True),
                "Seeds": str(test["seeds"]),
                "Difference here": number(test["mean"], test["std"], signed=True)
                + (
                    "" if pd.isna(test["low"]) else f" ({claims.ends((test['low'], test['high']))})"
                ),
                "p, corrected": claims.probability(test["p_holm"]),
                "Holds": test["holds"],
            }
        )
    return "\n\n".join(
        f"{ORDERS[is_same]}\n\n{_grid(lines)}" for is_same, lines in grids.items() if lines
    )


def _terms(data: StudyData) -> str:
    """Return share and gradient of each distillation term in a method's first table, over seeds."""
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
                        ("Gradient, average", "gradient"),
                        ("Gradient, last step", "gradient_last"),
                    )
                },
            }
        )
    return _grid(lines)


def _weights(data: StudyData) -> str:
    """Return the gains of methods by the factor of their weights, and their picture."""
    runs, terms = (frame[frame["table"] == "weights"] for frame in (data.runs, data.terms))
    gains = sweeps.sweep_gains(runs, (row for row in data.plan.rows if row.table == "weights"))
    if not gains:
        return NOT_RUN
    grid = _grid(sweeps.table(gains, terms))
    alt_text = f"Gains of each method, with every seed: {data.plan.study.tables['weights'].title}"
    return f"{grid}\n\n{_picture(sweeps.plot(gains), alt_text, f'{data.study}-weights')}"


def _price(data: StudyData) -> str:
    """Return the cost of trainings, the size of the detectors, and the total of the study."""
    trainings = data.runs.drop_duplicates(["run", "started"])
    compared = compared_trainings(data.runs)
    hours = trainings["seconds"].sum() / HOURS
    total = f"All {len(trainings)} trainings took {amount(hours)} hours, each on one thread. "
    sizes = {(row.group, row.label): size_cells(row.size) for row in data.rows if not row.setting}
    lines = [line | sizes.get((line["Detector"], line["Row"]), {}) for line in costs(compared)]
    processors = sorted({*(compared["cpu"] + " with " + compared["instructions"])})
    return "\n\n".join([_grid(lines), f"{total}Processors: {', '.join(processors)}."])


def compared_trainings(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the trainings whose cost can be compared.

    Runs with cached teacher outputs are left out, because they are cheaper than their method.
    """
    trainings = runs.drop_duplicates(["run", "started"])
    cached = trainings["teacher_cache_mb"].fillna(0) > 0
    default = trainings["setting"] == ""
    return trainings[~trainings["table"].isin(NO_RESULTS) & default & ~cached]


def costs(trainings: pd.DataFrame) -> list[dict[str, str]]:
    """Return the cost of each row relative to the baseline on the same processor."""
    library, lines = Library(), []
    for (detector, processor), runs in trainings.groupby(["detector", "cpu"], sort=False):
        baseline = runs[runs["method"] == "baseline"]
        for method, group in runs.groupby("method", sort=False):
            role = {"teacher": "Teacher", "baseline": "Student"}.get(str(method))
            lines.append(
                {
                    "Detector": _title(detector),
                    "Processor": str(processor).partition(" (")[0],
                    "Row": role or method_name(str(method), library),
                    "Runs": str(len(group)),
                    "Seconds per run": f"{group['seconds'].mean():.0f}",
                    TIMES: amount(group["seconds"].mean() / baseline["seconds"].mean()),
                    "Training images/s": amount(group["images_per_second"].mean()),
                    "Training memory, MB": f"{group['peak_memory_mb'].mean():.0f}",
                }
            )
    return lines


SHARED: dict[str, Callable[[StudyData], str]] = {
    "power": _power,
    "verdicts": _verdicts,
    "detectable": _detectable,
    "orderings": _orderings,
    "terms": _terms,
    "weights": _weights,
    "price": _price,
}
"""Functions that return the other blocks of a study, by the ends of their names."""
