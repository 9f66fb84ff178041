"""Page of published numbers: ``python -m docs.build.published``."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from analysis.tables.markdown import escaped
from docs.build.markdown import grid
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.published import COLUMNS, METRICS, read_lines

PAGE = Path("docs/reference/published.md")
NOT_REPRODUCED = "not_reproduced.csv"
REFERENCE = ("source", "table_id", "detector", "teacher", "student", "method")
INTRODUCTION = """# Published numbers

`configs/published` has {all} rows of published tables. {answered} of them are answered by a cell
of a study, which prints the number beside its own; {absent} are not reproduced here, for the
reasons below. `python -m docs.build.published` writes this page from the configuration, and
`tests/config/test_published_rows.py` counts.

A study runs at the papers' scale with `snakemake --config study=<study> scale=paper`."""
DIFFERS = """## Other conditions than ours

Even at the papers' scale the rows counted here were published under other conditions, or with
settings that are not published. Tables mark them, and no verdict is given on them."""


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(Library()))


def page(library: Library) -> str:
    """Return the page: reproduced tables, other conditions, and rows that are not reproduced."""
    folder = library.root / "published"
    files = sorted(set(folder.glob("*.csv")) - {folder / NOT_REPRODUCED})
    reproduced = sum(len(read_lines(file, COLUMNS)) for file in files)
    missing = [line for _, line in read_lines(folder / NOT_REPRODUCED, (*REFERENCE, "reason"))]
    plans = {name: plan(name, "paper", library) for name in _published(library)}
    counts = {"all": reproduced + len(missing), "answered": reproduced, "absent": len(missing)}
    parts = [
        INTRODUCTION.format(**counts),
        "## Reproduced",
        grid(["study", "table", "published as", "rows", "other conditions"], _tables(plans)),
        DIFFERS,
        grid(["study", "rows", "what differs"], _differences(plans)),
        "## Not reproduced here",
        grid(
            ["source", "table", "detector", "teacher", "student", "row", "figures", "reason"],
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


def _absent(line: dict[str, str]) -> list[str]:
    figures = [f"{name} {line[name]}" for name in METRICS if line.get(name)]
    return [
        escaped(text)
        for text in (*(line[key] for key in REFERENCE), ", ".join(figures), line["reason"])
    ]


if __name__ == "__main__":
    main()
