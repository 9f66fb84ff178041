"""Page of published numbers: ``python -m docs.build.published``."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from analysis.tables.formatting import ABSENT, number
from analysis.tables.markdown import escaped
from docs.build.markdown import grid
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.published import COLUMNS, METRICS, SOURCE_STUDENT, UNKNOWN, read_lines

PAGE = Path("docs/reference/published.md")
NOT_REPRODUCED = "not_reproduced.csv"
REFERENCE = ("source", "table_id", "detector", "teacher", "student", "method")
INTRODUCTION = """# Published numbers

`configs/published` has {all} rows of published tables. The studies cover {answered} of them: a
table prints the published number next to the number measured here. {absent} rows are not covered;
the last section gives the reason for each. `python -m docs.build.published` writes this page from
the configuration, and `tests/config/test_published_rows.py` checks that each row is covered or has
a reason.

`snakemake --config study=STUDY scale=paper` runs a study at the scale of the papers.
[Reproduce a paper's table](../how-to/paper-table.md) has the details."""
REPRODUCED = """## Covered rows

Column "published as" names the paper and its table. Column "other conditions" counts rows whose
published conditions differ; the next section explains them. Study `demo` repeats rows of
`rm_pfi`."""
DIFFERS = """## Rows with other conditions

The rows counted here were published under conditions that differ from those of scale `paper`, or
with settings that are not published. Tables mark these rows and give no verdict on them. "Here" is
the value that this project uses instead."""

QUOTED = """## Quoted rows

These tables quote numbers that were measured in another framework, over another student alone. A
difference of numbers from two frameworks is not a gain of the method. The published gain of these
rows is the gain at the source. A row whose source was not found has no published gain. The numbers
of FGFI on RetinaNet are those that the RM and PFI paper quotes from the GID paper."""


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(Library()))


def page(library: Library) -> str:
    """Return the page: covered tables, other conditions, and rows that are not covered."""
    folder = library.root / "published"
    files = sorted(set(folder.glob("*.csv")) - {folder / NOT_REPRODUCED})
    reproduced = sum(len(read_lines(file, COLUMNS)) for file in files)
    missing = [line for _, line in read_lines(folder / NOT_REPRODUCED, (*REFERENCE, "reason"))]
    plans = {name: plan(name, "paper", library) for name in _published(library)}
    counts = {"all": reproduced + len(missing), "answered": reproduced, "absent": len(missing)}
    parts = [
        INTRODUCTION.format(**counts),
        REPRODUCED,
        grid(["study", "table", "published as", "rows", "other conditions"], _tables(plans)),
        DIFFERS,
        grid(["study", "rows", "what differs"], _differences(plans)),
        QUOTED,
        grid(
            [
                "paper",
                "table",
                "detector",
                "teacher",
                "row",
                "number",
                "gain in the table",
                "student at the source",
                "gain at the source",
            ],
            _quoted(files),
        ),
        "## Rows that are not covered",
        grid(
            ["source", "table", "detector", "teacher", "student", "row", "numbers", "reason"],
            map(_absent, missing),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _published(library: Library) -> list[str]:
    """Return the studies that print published numbers."""
    names = library.names("studies")
    return [name for name in names if library.study(name, "studies").published]


def _tables(plans: dict[str, Plan]) -> Iterator[list[str]]:
    for name, study_plan in plans.items():
        for key, table in study_plan.study.tables.items():
            rows = [row for row in study_plan.rows if row.table == key and row.published]
            if rows:
                different = sum(bool(row.differs) for row in rows)
                source = f"{rows[0].source}, {table.published}"
                yield [
                    f"`{name}`",
                    f"`{key}`",
                    escaped(source),
                    str(len(rows)),
                    str(different or ""),
                ]


def _differences(plans: dict[str, Plan]) -> Iterator[list[str]]:
    for name, study_plan in plans.items():
        counts = Counter(row.differs for row in study_plan.rows if row.published and row.differs)
        for text, count in counts.items():
            yield [f"`{name}`", str(count), escaped(text)]


def _quoted(files: Iterable[Path]) -> Iterator[list[str]]:
    """Yield the rows with another student, and their gains over both students."""
    for file in files:
        lines = [line for _, line in read_lines(file, COLUMNS)]
        alone = {
            (line["table"], line["detector"], line["student"]): line
            for line in lines
            if line["method"] == "baseline"
        }
        for line in lines:
            if student := line.get(SOURCE_STUDENT):
                value, metric = line["AP"] or line["VOC07"], "AP" if line["AP"] else "VOC07"
                in_table = alone[line["table"], line["detector"], line["student"]][metric]
                gains = [_gain(value, baseline) for baseline in (in_table, student)]
                names = (line[key] for key in ("table", "detector", "teacher", "method"))
                yield [escaped(line["source"]), *names, value, gains[0], student, gains[1]]


def _gain(value: str, baseline: str) -> str:
    is_known = baseline not in ("", UNKNOWN)
    return number(float(value) - float(baseline), signed=True) if is_known else ABSENT


def _absent(line: dict[str, str]) -> list[str]:
    numbers = [f"{name} {line[name]}" for name in METRICS if line.get(name)]
    return [
        escaped(text)
        for text in (*(line[key] for key in REFERENCE), ", ".join(numbers), line["reason"])
    ]


if __name__ == "__main__":
    main()
