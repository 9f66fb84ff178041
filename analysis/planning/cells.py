"""Cells of a plan: each baseline of a table with the rows that have a gain over it."""

from dataclasses import dataclass
from functools import cached_property

from analysis.statistics.seeds import POINTS
from kd.common.results import results_folder
from kd.config.plan import Plan, Row
from kd.config.run import Run
from kd.data.entry import SplitName


@dataclass(frozen=True)
class PlannedCell:
    """A baseline of a table, and the rows that have a gain over it."""

    key: str
    """Key of the baseline's row."""
    metric: str
    split: SplitName
    """Split that the rows are measured on."""
    baseline: dict[int, Run]
    rows: dict[str, Row]
    """All rows of the table with a gain over the baseline, by key."""
    selected: list[str]
    """Keys of the rows that the plan selects."""
    cells: int
    """Cells of the table."""

    @property
    def seeds(self) -> int:
        """Planned seeds."""
        return len(self.baseline)

    @cached_property
    def baseline_values(self) -> dict[int, float | None]:
        """AP points of the measured runs of the baseline by seed."""
        return self._measured(self.baseline)

    @cached_property
    def values(self) -> dict[str, dict[int, float | None]]:
        """AP points of the measured runs of the selected rows by seed."""
        return {key: self._measured(self.rows[key].runs) for key in self.selected}

    def _measured(self, runs: dict[int, Run]) -> dict[int, float | None]:
        """Return the metric in AP points of each measured seed; None if it is undefined."""
        paths = {
            seed: results_folder(run.directory, self.split) / "metrics.json"
            for seed, run in runs.items()
        }
        existing = {seed: path for seed, path in paths.items() if path.exists()}
        if not existing:
            return {}
        from kd.evaluation.metrics import Metrics

        fractions = {
            seed: getattr(Metrics.read(path), self.metric) for seed, path in existing.items()
        }
        return {
            seed: None if value is None else POINTS * value for seed, value in fractions.items()
        }


def cells_of(plan: Plan) -> list[PlannedCell]:
    """Return the cells of a plan that have selected rows, in the order of their tables."""
    rows: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in plan.table_rows:
        if row.baselines:
            rows.setdefault(_name(row.table, row.baselines), {})[row.key] = row
    tables = [table for table, *_ in rows]
    keys = {
        _name(row.table, row.runs): row.key for row in plan.table_rows if row.kind == "baseline"
    }
    selected_keys = {row.key for row in plan.rows}
    return [
        PlannedCell(
            key=keys[name],
            metric=next(iter(cell.values())).metric,
            split=next(iter(cell.values())).split,
            baseline=next(iter(cell.values())).baselines,
            rows=cell,
            selected=[key for key in cell if key in selected_keys],
            cells=tables.count(name[0]),
        )
        for name, cell in rows.items()
        if cell.keys() & selected_keys
    ]


def _name(table: str, runs: dict[int, Run]) -> tuple[str, ...]:
    return table, *(run.name for run in runs.values())
