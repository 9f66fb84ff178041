"""Cells of tables: a baseline, and all planned rows of a table that are compared with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from analysis.statistics.comparison import CellComparison, compare_cell, mean_interval
from analysis.statistics.gains import Gain, judged, mean_gain, paired_gains
from analysis.statistics.pooled import Family
from analysis.statistics.resampled import gain_samples, image_interval
from analysis.statistics.screening import false_discovery_q
from analysis.statistics.seeds import POINTS, SIGNIFICANT, Interval
from kd.evaluation.metrics import Metrics

if TYPE_CHECKING:
    from analysis.tables.rows import RowSpec

CellKey = tuple[str, tuple[Path, ...], str]
"""Table, runs of the baseline, and metric."""


class CellFacts(NamedTuple):
    """The model of a cell, its checked assumptions, and the size of its family."""

    residual_std: float
    """In AP points."""
    residual_df: int
    """Degrees of freedom of the residual standard deviation."""
    equal_gains_p: float | None
    """p of equal variances of the gains."""
    equal_runs_p: float | None
    """p of equal variances of the rows."""
    planned_rows: int
    """Planned rows that are compared with the baseline of the cell."""
    table_rows: int
    """The same of all cells of the table."""
    table_cells: int
    """Cells of the table."""

    @property
    def varies(self) -> bool:
        """True if a test rejects that the variances are equal."""
        return any(
            p is not None and p < SIGNIFICANT for p in (self.equal_gains_p, self.equal_runs_p)
        )


class Measurements:
    """Metrics of runs; each file is read once."""

    def __init__(self) -> None:
        """Start without any."""
        self._metrics: dict[Path, Metrics | None] = {}

    def measured(self, runs: Mapping[int, Path]) -> dict[int, Metrics]:
        """Return the metrics of each seed whose run has them; UserError for an invalid file."""
        by_seed = {seed: self._read(path) for seed, path in runs.items()}
        return {seed: metrics for seed, metrics in by_seed.items() if metrics is not None}

    def points(self, runs: Mapping[int, Path], name: str) -> dict[int, float]:
        """Return a metric in AP points of each seed that defines it."""
        measured = self.measured(runs)
        fractions = {seed: getattr(metrics, name) for seed, metrics in measured.items()}
        return {seed: POINTS * value for seed, value in fractions.items() if value is not None}

    def _read(self, run: Path) -> Metrics | None:
        if run not in self._metrics:
            path = run / "metrics.json"
            self._metrics[run] = Metrics.read(path) if path.exists() else None
        return self._metrics[run]


@dataclass(frozen=True)
class _Cell:
    comparison: CellComparison | None
    planned_rows: int
    table_rows: int
    table_cells: int


class Cells:
    """The statistics of all cells of planned rows.

    A cell is judged as planned: rows without results count in its family, and rows that a selection
    leaves out count with their results.
    """

    def __init__(self, planned: Sequence["RowSpec"], measurements: Measurements) -> None:
        """Compare every cell of the rows of whole tables."""
        self._measurements = measurements
        members: dict[CellKey, dict[str, RowSpec]] = {}
        for spec in planned:
            if spec.compared:
                members.setdefault(_key(spec), {})[_name(spec)] = spec
        alone = [spec for spec in planned if spec.kind == "baseline"]
        self._alone = {_key(spec): spec for spec in reversed(alone)}
        self._cells = {}
        for key, rows in members.items():
            sizes = [len(others) for other, others in members.items() if other[0] == key[0]]
            comparison = self._compare(rows, len(sizes))
            self._cells[key] = _Cell(comparison, len(rows), sum(sizes), len(sizes))
        self._q = _screened(self._cells)

    def _compare(self, rows: Mapping[str, "RowSpec"], cells: int) -> CellComparison | None:
        points = self._measurements.points
        first = next(iter(rows.values()))
        seeds = {name: [*row.runs] for name, row in rows.items()}
        return compare_cell(
            points(first.baseline_results, first.metric),
            {name: points(row.results, row.metric) for name, row in rows.items()},
            Family([*first.baseline_runs], seeds, cells),
        )

    def gain(self, spec: "RowSpec") -> Gain | None:
        """Return the gain of a row over its baseline; None without a seed that both share."""
        both = (spec.results, spec.baseline_results)
        gains = paired_gains(*(self._measurements.points(runs, spec.metric) for runs in both))
        if not gains:
            return None
        measured = [self._measurements.measured(runs).keys() for runs in both]
        paired = {seed: spec.results[seed] for seed in sorted(measured[0] & measured[1])}
        samples = gain_samples(paired, spec.baseline_results, spec.metric)
        gain = mean_gain(gains, None if samples is None else image_interval(samples))
        assert gain is not None
        key, name = _key(spec), _name(spec)
        judgment = judged(gain, self._cells[key].comparison, name, samples)
        return replace(judgment, q=self._q.get((key, name)))

    def baseline(self, spec: "RowSpec") -> "RowSpec | None":
        """Return the baseline row of a row's cell; None for a row that is not compared."""
        return self._alone.get(_key(spec)) if spec.compared else None

    def facts(self, spec: "RowSpec") -> CellFacts | None:
        """Return the facts of a row's cell; None without a cell or a model of it."""
        cell = self._cells.get(_key(spec))
        if cell is None or cell.comparison is None:
            return None
        comparison = cell.comparison
        tests = (comparison.equal_gains_p, comparison.equal_runs_p)
        sizes = (cell.planned_rows, cell.table_rows, cell.table_cells)
        return CellFacts(comparison.std, comparison.df, *tests, *sizes)

    def mean_interval(self, spec: "RowSpec") -> Interval | None:
        """Return the interval over seeds of a row's mean, with the deviation of its cell."""
        cell = self._cells.get(_key(spec))
        points = self._measurements.points(spec.results, spec.metric)
        return mean_interval(points, cell.comparison if cell else None)


def _key(spec: "RowSpec") -> CellKey:
    """Return the cell of a row; that of a baseline is its own."""
    runs = spec.baseline_runs if spec.compared else spec.runs
    return spec.table, tuple(runs.values()), spec.metric


def _name(spec: "RowSpec") -> str:
    """Return the name of a row in its cell: rows of the same runs are one."""
    return " ".join(map(str, spec.runs.values()))


def _screened(cells: Mapping[CellKey, _Cell]) -> dict[tuple[CellKey, str], float | None]:
    """Return q of every gain among those of all cells."""
    p = {
        (key, name): gain.p
        for key, cell in cells.items()
        if cell.comparison
        for name, gain in cell.comparison.confirmed.items()
    }
    return dict(zip(p, false_discovery_q([*p.values()]), strict=True))
