"""From a plan to the files that readers look at: tables, and a figure of gains."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from analysis import gains, style, tables
from analysis.names import backbone_name, method_name, teacher_name
from analysis.subjects import ROLES
from kd.files import write_text
from kd.settings.library import Library
from kd.settings.plan import Plan, Row
from kd.settings.run import Run, study_folder

PARTIAL = "partial"


def publish(plan: Plan, study: str, scale: str) -> str:
    """Write tables and figure from the results that exist; return the Markdown.

    While a run is missing they go into the folder ``partial``, since the workflow takes a table in
    its place for a finished one.
    """
    library = Library()
    frame = tables.build([specification(row, plan, library) for row in plan.rows])
    folder = study_folder(study, scale)
    if (frame["status"] == "ok").all():
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    else:
        folder /= PARTIAL
    title = f"{plan.study.title} ({plan.study.source}); scale {scale}: {plan.scale.title}"
    text = tables.to_markdown(frame, title)
    write_text(folder / "table.md", text)
    write_text(folder / "table.csv", tables.to_csv(frame))
    write_text(folder / "table.tex", tables.to_latex(frame))
    style.save(gains.plot(frame), folder / "gains")
    return text


def specification(row: Row, plan: Plan, library: Library) -> tables.RowSpec:
    """Return a row as tables see it: names to print, and run directories by seed."""
    return tables.RowSpec(
        table=plan.study.tables[row.table].title,
        group=library.detector(row.detector, "table").title,
        label=_label(row, library),
        kind=row.kind,
        teacher=teacher_name(row, library),
        student=backbone_name(row.student, library),
        runs=_directories(row.runs),
        baseline_runs=_directories(row.baselines),
        published=row.published,
        published_baseline=row.published_baseline,
        note=_note(row, plan, library),
    )


def _label(row: Row, library: Library) -> str:
    name = ROLES[row.kind] if row.kind != "distilled" else method_name(row.method, library)
    return f"{name} ({row.setting})" if row.setting else name


def _note(row: Row, plan: Plan, library: Library) -> str:
    """Say what stands in for the published conditions at this scale, if anything does."""
    table, scale, run = plan.study.tables[row.table], plan.scale, next(iter(row.runs.values()))
    swaps = [
        f"{run.dataset} for {table.dataset}" if run.dataset != table.dataset else "",
        f"schedule {run.schedule} for {row.schedule}" if run.schedule != row.schedule else "",
        *(
            f"{backbone_name(scale.backbones[name], library)} for {backbone_name(name, library)}"
            for name in (row.teacher_backbone, row.student)
            if name in scale.backbones
        ),
    ]
    listed = ", ".join(swap for swap in swaps if swap)
    conditions = "Other conditions than published" if row.published else "Not what the row names"
    return f"{conditions}: {listed}." if listed else ""


def _directories(runs: Mapping[int, Run]) -> dict[int, Path]:
    return {seed: run.directory for seed, run in runs.items()}
