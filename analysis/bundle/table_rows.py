"""Rows of a study's tables as a file of a bundle, from which the tables are computed again.

The rows name the runs, so nothing is planned or composed again: a later version of the project, in
which a run has another digest, verifies an old bundle.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from analysis.bundle.archive import json_bytes
from analysis.tables.csv_file import to_csv
from analysis.tables.latex import to_latex
from analysis.tables.markdown import to_markdown
from analysis.tables.rows import ResultRow, RowSpec, build
from kd.common.errors import UserError

FILE = "rows.json"
FORMAT = 1
"""Version of the file. Raise it when a field of a row changes."""


@dataclass(frozen=True)
class TableRows:
    """The rows of a study's tables, and the titles of its files."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: int
    study: str
    scale: str
    folder: str
    """Folder of the tables."""
    title: str
    """Title of ``table.md``."""
    caption: str
    """Caption of ``table.tex``."""
    rows: list[RowSpec]
    planned: list[RowSpec]
    """All rows of the same tables, which gains are judged with."""

    def to_json(self) -> bytes:
        """Return the rows as JSON."""
        return json_bytes(_ADAPTER.dump_python(self, mode="json"))

    @classmethod
    def read(cls, path: Path) -> "TableRows":
        """Return the rows of a file; UserError if it is absent or of another version."""
        try:
            rows = _ADAPTER.validate_json(path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"{path.name}: not in the bundle; get the bundle again") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UserError(
                f"{path.name}: key '{place}': {first['msg']}; verify the bundle with the version "
                "of kd-detection that wrote it, which its README.md names"
            ) from None
        paths = [run for row in (*rows.rows, *rows.planned) for run in _directories(row)]
        if any(run.is_absolute() or ".." in run.parts for run in [*paths, Path(rows.folder)]):
            raise UserError(f"{path.name}: names a folder outside the bundle; distrust the bundle")
        return rows

    def results(self) -> list[ResultRow]:
        """Return the rows with the results that lie in the working directory."""
        return build(self.rows, self.planned)

    def tables(self) -> dict[str, str]:
        """Return the text of each table's file by name."""
        rows = self.results()
        return {
            "table.csv": to_csv(rows),
            "table.md": to_markdown(rows, self.title),
            "table.tex": to_latex(rows, self.caption),
        }


_ADAPTER = TypeAdapter(TableRows)


def _directories(row: RowSpec) -> list[Path]:
    by_seed = (row.runs, row.baseline_runs, row.teacher_detectors)
    return [*(run for runs in by_seed for run in runs.values()), *row.teacher_runs]
