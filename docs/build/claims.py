"""Page of all claims at scale ``paper``: ``python -m docs.build.claims``."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.tables.claims.claim import SEEDS, Claim, claims_of
from analysis.tables.claims.page import RULES, claims_table, devices
from analysis.tables.formatting import amount
from analysis.tables.rows import ResultRow, by_table
from analysis.tables.write import results
from docs.build.markdown import anchor, grid
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import plan
from kd.workflow.options import WorkflowOptions

PAGE = Path("docs/reference/claims.md")
SCALE = "paper"
INTRODUCTION = """# Claims

This page lists the published gains that the studies cover, each with the command that reproduces
it, the condition of each verdict, and the time. It has the content that reproducibility tracks and
the artifact badges of ACM ask for. `python -m docs.build.claims` writes it as on a machine without
results, so no claim has a number of ours here.

`kd table STUDY --scale SCALE` and each command of this page write the same table with our numbers
and verdicts to `claims.md` in `results/STUDY/SCALE`."""
BADGES = """## Badges

| badge | what a reviewer checks |
|---|---|
| available | the repository, its [license](../../LICENSE), [how to cite it](../how-to/cite.md) |
| functional | [installation](../how-to/install.md), [demo](../tutorials/first-table.md) on a CPU |
| reproduced | the claims of this page |

This project has trained no claim at scale `paper`, so it claims nothing as reproduced yet. It has
[rehearsed](rehearsals.md) the trainings at their real size. [A paper's
table](../how-to/paper-table.md) describes data, rehearsal, budget and the run of a whole table,
which shares baselines and teachers among claims."""
SEEDS_LINE = (
    f"The commands train {SEEDS} seeds, because a verdict needs an interval over seeds. An "
    "interval that is too wide is inconclusive: [add seeds](../how-to/seeds.md)."
)
VERDICT_LINE = (
    "[The verdict on a published gain]"
    "(../explanation/statistics.md#the-verdict-on-a-published-gain) has the rule with its reasons."
)


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(Library()))


def page(library: Library) -> str:
    """Return the page; results and data in the working directory do not change it."""
    absolute = Library(library.root.resolve())
    studies = [
        name for name in absolute.names("studies") if absolute.study(name, str(PAGE)).published
    ]
    with TemporaryDirectory() as empty, contextlib.chdir(empty):
        claims = {name: _claims(name, absolute) for name in studies}
    all_claims = [claim for study_claims, _ in claims.values() for claim in study_claims]
    speed = WorkflowOptions.read(absolute.root / "default.yaml").gpu_tflops
    hardware = f"{devices(all_claims)} Estimates assume {speed:g} tera multiply-adds a second."
    lines = [*RULES, hardware, SEEDS_LINE, VERDICT_LINE]
    parts = [INTRODUCTION, BADGES, "## How to read", "\n".join(f"- {line}" for line in lines)]
    parts += ["## Studies", _summary(claims)]
    for study, (study_claims, rows) in claims.items():
        parts += _section(study, study_claims, rows)
    return "\n\n".join(parts) + "\n"


def _claims(study: str, library: Library) -> tuple[list[Claim], list[ResultRow]]:
    """Return the claims of a study at paper scale, and all its rows."""
    planned = plan(study, SCALE, library)
    rows = results(planned, library)
    return claims_of(planned, study, rows, library), rows


def _summary(claims: dict[str, tuple[list[Claim], list[ResultRow]]]) -> str:
    """Return the number of claims of each study, and of those that can get a verdict."""
    lines = []
    for study, (study_claims, _) in claims.items():
        counts = (len(study_claims), sum(claim.has_verdict for claim in study_claims))
        efforts = filter(None, (claim.effort for claim in study_claims))
        hours = [effort.hours for effort in efforts if effort.hours]
        span = " to ".join(dict.fromkeys((amount(min(hours)), amount(max(hours)))))
        lines.append([f"[`{study}`](#{anchor(study)})", *map(str, counts), span])
    totals = (sum(int(line[column]) for line in lines) for column in (1, 2))
    lines.append(["**all**", *map(str, totals), ""])
    return grid(["study", "claims", "comparable", "GPU hours of a claim"], lines)


def _section(study: str, claims: list[Claim], rows: list[ResultRow]) -> Iterator[str]:
    yield f"## {study}"
    for table, members in by_table(rows).items():
        of_table = [claim for claim in claims if claim.row.table == table]
        yield from claims_table(of_table, members, level=3)


if __name__ == "__main__":
    main()
