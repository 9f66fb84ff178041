"""Claims as Markdown: ``claims.md`` of a study, and parts that the documentation shares."""

from collections.abc import Iterator, Sequence

from analysis.tables.claims.claim import Claim
from analysis.tables.formatting import ABSENT, gain_text, metric_title, number
from analysis.tables.markdown import bullets, escaped
from analysis.tables.miniature import is_single_miniature
from analysis.tables.notes import Remark, marks_of, published_sources, remarks
from analysis.tables.rows import ResultRow, by_table

RULES = (
    "A claim is a published number and, in parentheses, its gain over the published student alone. "
    "The command trains and measures the distilled student, the student alone and the teachers.",
    'l and h are the ends of our 95 % interval of the gain over seeds. Column "verdict if" states '
    "the condition of each verdict; an interval that meets none is inconclusive.",
    'Column "comparable": a claim that was published under other conditions than ours gets no '
    "verdict. The notes below a table state them.",
    "Time is that of all trainings of the command, without prediction and evaluation. Its source "
    "is that of `kd plan --budget`: measured, rehearsed (a few steps), or estimated from "
    "multiply-adds.",
)
NONE = "No selected row has a published number, so there is no claim."
NO_TIME = "Scale `paper` cannot be planned with the settings of this project, so times are absent."
LEFT_OUT = (
    "Our numbers are left out: results of one seed below scale paper are not comparable with "
    "published numbers. table.md has them."
)
"""Note under claims without our numbers."""


def claims_page(claims: Sequence[Claim], rows: Sequence[ResultRow], title: str) -> str:
    """Return ``claims.md`` of a study; ``rows``: all its rows, with controls."""
    parts = [f"# Claims: {escaped(title)}"]
    if not claims:
        return "\n\n".join([*parts, NONE]) + "\n"
    parts += ["\n".join(f"- {line}" for line in (*RULES, devices(claims)))]
    for table, members in by_table(rows).items():
        parts += claims_table([claim for claim in claims if claim.row.table == table], members)
    return "\n\n".join(parts) + "\n"


def devices(claims: Sequence[Claim]) -> str:
    """Return a sentence on the devices of the trainings."""
    counts = sorted({claim.effort.gpus for claim in claims if claim.effort})
    if not counts:
        return NO_TIME
    texts = (f"{count} GPU{'s' * (count > 1)}" if count else "the CPU" for count in counts)
    return f"Each training runs on {' or '.join(texts)}."


def claims_table(
    claims: Sequence[Claim], rows: Sequence[ResultRow], level: int = 2
) -> Iterator[str]:
    """Yield heading, grid and notes of the claims of a table; nothing without claims."""
    if not claims:
        return
    claimed_rows = [claim.row for claim in claims]
    table_remarks = remarks(claimed_rows)
    is_left_out = is_single_miniature(rows)
    lines = [_cells(claim, table_remarks, is_left_out) for claim in claims]
    header = [name for name in lines[0] if any(line[name] != ABSENT for line in lines)]
    grid = [header, ["---"] * len(header), *([line[name] for name in header] for line in lines)]
    yield f"{'#' * level} {escaped(rows[0].table)}"
    yield "\n".join(f"| {' | '.join(line)} |" for line in grid)
    is_measured = any(row.seeds_measured for row in claimed_rows)
    left_out = [LEFT_OUT] if is_left_out and is_measured else []
    controls = [] if is_left_out else _controls(rows)
    sources = published_sources(claimed_rows, table_remarks)
    yield from bullets([*left_out, *controls, *sources, *map(str, table_remarks)])


def _cells(claim: Claim, table_remarks: Sequence[Remark], is_left_out: bool) -> dict[str, str]:
    """Return the cells of a claim by column, as Markdown."""
    row = claim.row
    title = metric_title(row.metric)
    texts = {
        "Claim": claim.title + marks_of(row, table_remarks),
        f"Published {title}": claim.published,
        "Verdict if": claim.condition or ABSENT,
        "Comparable": "yes" if claim.has_verdict else "no",
        f"Our {title}": ABSENT if is_left_out else number(row.headline, row.std),
        "Our gain": ABSENT if is_left_out else gain_text(row.gain),
        "Seeds": row.seeds if row.seeds_measured else ABSENT,
        "Verdict": row.verdict or ABSENT,
        "Time": str(claim.effort) if claim.effort else ABSENT,
    }
    return {name: escaped(text) for name, text in texts.items()} | {"Command": f"`{claim.command}`"}


def _controls(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line for each measured control: a gain that needs no teacher."""
    return [
        f"{row.label} on {row.group}, {row.student}: gain without a teacher {gain_text(row.gain)}."
        for row in rows
        if row.kind == "control" and row.gain
    ]
