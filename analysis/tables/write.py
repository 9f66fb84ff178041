"""From a plan to the files that readers look at: tables, and a figure of gains for each."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from analysis.plotting import style
from analysis.runs.groups import ROLES
from analysis.runs.titles import backbone_name, method_name, teacher_name
from analysis.tables import gains, rows
from analysis.tables.latex import to_latex
from analysis.tables.markdown import to_markdown
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import Plan, Row
from kd.config.run import Run, study_folder

PARTIAL = "partial"


def publish(plan: Plan, study: str, scale: str) -> str:
    """Write tables and figures from the results that exist; return the Markdown.

    While a run is missing they go into the folder ``partial``, since the workflow takes a table in
    its place for a finished one.
    """
    frame = results(plan)
    folder = study_folder(study, scale)
    if (frame["status"] == "ok").all():
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    else:
        folder /= PARTIAL
    title = f"{plan.study.title} ({plan.study.source}); scale {scale}: {plan.scale.title}"
    text = to_markdown(frame, title)
    write_text(folder / "table.md", text)
    write_text(folder / "table.csv", rows.to_csv(frame))
    write_text(folder / "table.tex", to_latex(frame, plan.study.title))
    for key in dict.fromkeys(row.table for row in plan.rows):
        of_table = frame[[row.table == key for row in plan.rows]]
        # The workflow waits for the figures of a finished study, without gains, too.
        if folder.name != PARTIAL or of_table["gain"].notna().any():
            style.save(gains.plot(of_table), folder / "gains" / key)
    return text


def results(plan: Plan) -> pd.DataFrame:
    """Return the frame of a plan's rows, in their order, from the results that exist."""
    library = Library()
    return rows.build([specification(row, plan, library) for row in plan.rows])


def specification(row: Row, plan: Plan, library: Library) -> rows.RowSpec:
    """Return a row as tables see it: names to print, and run directories by seed."""
    run = next(iter(row.runs.values()))
    teachers = [teacher for teacher in (run.teacher, run.classifier) if teacher]
    return rows.RowSpec(
        table=plan.study.tables[row.table].title,
        group=library.detector(row.detector, "table").title,
        label=_label(row, library),
        kind=row.kind,
        teacher=teacher_name(row, library),
        student=backbone_name(row.student, library),
        runs=_directories(row.runs),
        baseline_runs=_directories(row.baselines),
        teacher_runs=[teacher.directory for teacher in teachers],
        published=row.published,
        published_baseline=row.published_baseline,
        metric=row.metric,
        setting=row.setting,
        scale=run.scale,
        stand_ins=list(_stand_ins(row, run, plan, library)),
        differs=row.differs,
        note=row.remark,
        source=row.source,
    )


def _label(row: Row, library: Library) -> str:
    name = ROLES[row.kind] if row.kind != "distilled" else method_name(row.method, library)
    return f"{name} ({row.setting})" if row.setting else name


def _stand_ins(row: Row, run: Run, plan: Plan, library: Library) -> Iterator[str]:
    """Yield what stands in for the parts that a row names, at the scale that it was run at."""
    dataset, scale = plan.study.tables[row.table].dataset, plan.scale
    if run.dataset != dataset:
        yield f"{run.dataset} for {dataset}"
    if run.schedule != row.schedule:
        yield f"schedule {run.schedule} for {row.schedule}"
    for name in (row.teacher_backbone, row.student):
        if name in scale.backbones:
            other = scale.backbones[name]
            yield f"{backbone_name(other, library)} for {backbone_name(name, library)}"
    if row.classifier in scale.classifiers:
        names = (scale.classifiers[row.classifier], row.classifier)
        yield " for ".join(
            f"classifier {library.classifier(each, 'table').title}" for each in names
        )


def _directories(runs: Mapping[int, Run]) -> dict[int, Path]:
    return {seed: run.directory for seed, run in runs.items()}
