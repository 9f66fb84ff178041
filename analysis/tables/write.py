"""Publish a study: write its tables and gain figures from the results of its runs."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from analysis.plotting import style
from analysis.runs.titles import (
    ROLES,
    backbone_name,
    method_name,
    scale_title,
    table_title,
    teacher_name,
)
from analysis.tables.claims.claim import claims_of
from analysis.tables.claims.page import claims_page
from analysis.tables.csv_file import split_clauses, to_csv
from analysis.tables.gain_figure import gain_alt_text, plot_gains
from analysis.tables.latex import to_latex
from analysis.tables.markdown import to_markdown
from analysis.tables.rows import DONE, ResultRow, RowSpec, build
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import Plan, Row
from kd.config.run import Run, study_folder

PARTIAL = "partial"
ON_VALIDATION = "ours is measured on the validation split"
"""Difference between the published conditions and those of a row on the validation split."""


def publish(plan: Plan, study: str, scale: str) -> str:
    """Write tables and figures from the available results; return the Markdown.

    While a run is missing they are written to the folder ``partial``, because the workflow takes a
    table in the study's folder for a finished one.
    """
    rows = results(plan)
    folder = study_folder(study, scale)
    if all(row.status == DONE for row in rows):
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    else:
        folder /= PARTIAL
    markdown = to_markdown(rows, heading(plan, scale))
    write_text(folder / "table.md", markdown)
    write_text(folder / "table.csv", to_csv(rows))
    write_text(folder / "table.tex", to_latex(rows, plan.study.title))
    if plan.study.published:
        claims = claims_of(plan, study, rows, Library())
        write_text(folder / "claims.md", claims_page(claims, rows, heading(plan, scale)))
    figures = {}
    for key in dict.fromkeys(row.table for row in plan.rows):
        of_table = [
            row for row, planned in zip(rows, plan.rows, strict=True) if planned.table == key
        ]
        # The workflow waits for the figures of a finished study, even without gains.
        if folder.name != PARTIAL or any(row.gain for row in of_table):
            figures[folder / "gains" / key] = of_table
    _write_figures(figures)
    return markdown


def _write_figures(figures: Mapping[Path, Sequence[ResultRow]]) -> None:
    """Write the gain figure of the rows at each path, several figures at a time."""
    processes = min(len(figures), len(os.sched_getaffinity(0)))
    if processes < 2:
        for stem, rows in figures.items():
            _write_figure(stem, rows)
        return
    with ProcessPoolExecutor(processes, get_context("fork")) as pool:
        for _ in pool.map(_write_figure, figures.keys(), figures.values()):
            pass


def _write_figure(stem: Path, rows: Sequence[ResultRow]) -> None:
    style.save(plot_gains(rows), stem, alt_text=gain_alt_text(rows))


def heading(plan: Plan, scale: str) -> str:
    """Return the title of a study's tables, with its selection and changes of schedules."""
    source = f" ({plan.study.source})" if plan.study.source else ""
    title = f"{plan.study.title}{source}; {scale_title(plan, scale)}"
    if plan.options.schedule:
        title = f"Schedule changed ({plan.options.schedule}): {title}"
    if plan.options.selected_rows:
        title = f"Selected rows ({plan.options.selected_rows}): {title}"
    return title


def results(plan: Plan, library: Library | None = None) -> list[ResultRow]:
    """Return the rows of a plan, in its order, with the available results."""
    return build(*specifications(plan, library or Library()))


def specifications(plan: Plan, library: Library) -> tuple[list[RowSpec], list[RowSpec]]:
    """Return the rows of a plan, and all rows of their tables, in printed names."""
    specs, planned = (
        [specification(row, plan, library) for row in rows]
        for rows in (plan.rows, plan.table_rows or plan.rows)
    )
    return specs, planned


def specification(row: Row, plan: Plan, library: Library) -> RowSpec:
    """Return a row of a plan in printed names, with its run directories by seed."""
    run = next(iter(row.runs.values()))
    teachers = [
        teacher.directory
        for student in row.runs.values()
        for teacher in (student.teacher, student.classifier)
        if teacher
    ]
    return RowSpec(
        table=table_title(plan.study.tables[row.table]) + _split_title(row),
        group=library.detector(row.detector, "table").title,
        label=_label(row, library),
        kind=row.kind,
        teacher=teacher_name(row, library, plan.scale),
        student=backbone_name(plan.scale.backbones.get(row.student, row.student), library),
        runs=_directories(row.runs),
        baseline_runs=_directories(row.baselines),
        teacher_runs=list(dict.fromkeys(teachers)),
        teacher_detectors={
            seed: student.teacher.directory for seed, student in row.runs.items() if student.teacher
        },
        published=row.published,
        published_baseline=row.published_baseline,
        metric=row.metric,
        setting=row.setting,
        scale=run.scale,
        stand_ins=tuple(_stand_ins(row, run, plan, library)),
        differs=(*split_clauses(row.differs), *([ON_VALIDATION] if row.split == "val" else [])),
        notes=split_clauses(row.remark),
        source=row.source,
        selection=plan.options.selected_rows,
        split=row.split,
        early_split=library.dataset(run.dataset, "table").early_split,
    )


def _split_title(row: Row) -> str:
    """Return the end of the title of a table that is not measured on the test split."""
    return " (validation split)" if row.split == "val" else ""


def _label(row: Row, library: Library) -> str:
    name = ROLES[row.kind] if row.kind != "distilled" else method_name(row.method, library)
    return f"{name} ({row.setting})" if row.setting else name


def _stand_ins(row: Row, run: Run, plan: Plan, library: Library) -> Iterator[str]:
    """Yield the replacements for parts that a row names, at the scale of its run."""
    dataset, scale = plan.study.tables[row.table].dataset, plan.scale
    if run.dataset != dataset:
        yield f"{run.dataset} for {dataset}"
    schedule = next(iter((row.baselines or row.runs).values())).schedule  # a control's is longer
    if schedule != row.schedule:
        yield f"schedule {schedule} for {row.schedule}"
    for name in (row.teacher_backbone, row.student):
        if name in scale.backbones:
            other = scale.backbones[name]
            yield f"{backbone_name(other, library)} for {backbone_name(name, library)}"
    if row.classifier in scale.classifiers:
        classifiers = (scale.classifiers[row.classifier], row.classifier)
        titles = [library.classifier(classifier, "table").title for classifier in classifiers]
        yield " for ".join(f"classifier {title}" for title in titles)


def _directories(runs: Mapping[int, Run]) -> dict[int, Path]:
    return {seed: run.directory for seed, run in runs.items()}
