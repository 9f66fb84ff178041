"""Rows of a study's tables: their descriptions, and their results computed from run directories.

CSV, Markdown, LaTeX, the gain figure and the report are all written from these rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Literal

from analysis.statistics.gains import Gain
from analysis.statistics.resampled import gain_samples, image_interval
from analysis.statistics.seeds import Interval, mean_std
from analysis.statistics.verdicts import NOT_REPRODUCED, level_verdict, verdict
from analysis.tables.cells import CellFacts, Cells, Measurements
from analysis.tables.comparability import mismatches
from analysis.tables.formatting import number
from analysis.tables.usage import total_usage
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.results import results_folder
from kd.data.entry import SplitName
from kd.evaluation.metrics import CALIBRATION_METRICS, LRP_METRICS
from kd.records.latency import Latency, read_latency
from kd.records.model_size import ModelSize, read_size
from kd.resources.usage import Usage

DONE = "done"
"""Status of a row whose runs all have results."""
METRICS = ("AP", "AP50", "AP75", "APS", "APM", "APL")
"""Metrics of every table; the headline metric of a row, such as ``VOC07``, is added to them."""
MEASURES = (*LRP_METRICS, *CALIBRATION_METRICS)
"""Measures beside AP, of which lower is better; runs of earlier versions lack them."""

WEAK_TEACHER = "its teacher is not clearly better than its student alone"
"""Beginning of a remark on a row."""


@dataclass(frozen=True)
class TableRow:
    """The description of a row of a published table, in printed names."""

    table: str
    group: str
    """The detector."""
    label: str
    kind: Literal["teacher", "baseline", "control", "distilled"]
    teacher: str
    student: str
    _: KW_ONLY
    setting: str = ""
    scale: str = ""
    metric: str = "AP"
    """The headline metric, in which gain and published gain are measured."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Published metrics in AP points."""
    stand_ins: tuple[str, ...] = ()
    """Replacements at this scale for parts that the row names, such as ``shapes for coco2017``."""
    differs: tuple[str, ...] = ()
    """Reasons why the published number has other conditions than ours, even without stand-ins."""
    notes: tuple[str, ...] = ()
    source: str = ""
    selection: str = ""
    """Selection of the table's rows, such as ``methods pfi``; empty for a whole table."""
    split: SplitName = "test"
    """Split that the row is measured on."""
    early_split: str = ""
    """Split that AP during training is measured on, if known; ``test`` without a ``val``."""

    @property
    def compared(self) -> bool:
        """True for a row with a gain over a baseline."""
        return self.kind not in ("teacher", "baseline")


@dataclass(frozen=True)
class RowSpec(TableRow):
    """A row of a published table and the directories of the runs that reproduce it."""

    runs: Mapping[int, Path]
    """Run directories by seed."""
    baseline_runs: Mapping[int, Path] = field(default_factory=dict)
    teacher_runs: Sequence[Path] = ()
    _: KW_ONLY
    teacher_detectors: Mapping[int, Path] = field(default_factory=dict)
    """Directories of the teacher detectors by the student's seed."""
    published_baseline: Mapping[str, float] = field(default_factory=dict)

    @property
    def results(self) -> dict[int, Path]:
        """Folders with the results of the runs on the row's split, by seed."""
        return {seed: results_folder(run, self.split) for seed, run in self.runs.items()}

    @property
    def baseline_results(self) -> dict[int, Path]:
        """Folders with the results of the baseline's runs on the row's split, by seed."""
        return {seed: results_folder(run, self.split) for seed, run in self.baseline_runs.items()}

    @property
    def published_gain(self) -> float | None:
        """The published gain in the headline metric, in AP points."""
        if self.metric in self.published and self.metric in self.published_baseline:
            return self.published[self.metric] - self.published_baseline[self.metric]
        return None


@dataclass(frozen=True, kw_only=True)
class ResultRow(TableRow):
    """A row of a published table with its results: means over seeds, gain, verdict and usage."""

    seeds_measured: int
    seeds_planned: int
    failures: tuple[str, ...] = ()
    """Reasons of failed runs, each once."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Mean of each metric over the measured seeds, in points; undefined ones are absent."""
    std: float | None = None
    """Sample standard deviation of the headline metric over seeds."""
    mean_interval: Interval | None = None
    """95 % interval of its mean over seeds; None of one seed, or of equal ones without a cell."""
    gain: Gain | None = None
    """Gain of a compared row over its baseline."""
    cell: CellFacts | None = None
    """The model of the row's cell; None without one (``analysis.statistics.pooled.fit``)."""
    published_gain: float | None = None
    verdict: str = ""
    """Verdict on the published gain."""
    level_verdict: str = ""
    """Verdict on the published headline metric."""
    usage: Usage | None = None
    """Resource usage of all measured runs together; None without any."""
    size: ModelSize | None = None
    """Size of the row's detector, without teacher and adaptation layers; None if not recorded."""
    latency: Latency | None = None
    """Inference latency of the row's detector; None if not measured."""
    mismatches: tuple[str, ...] = ()
    """Reasons from the runs' records why they cannot be compared."""
    runs: tuple[Path, ...] = ()
    baseline_runs: tuple[Path, ...] = ()
    teacher_runs: tuple[Path, ...] = ()

    @property
    def seeds(self) -> str:
        """Measured of planned seeds, such as ``2/3``."""
        return f"{self.seeds_measured}/{self.seeds_planned}"

    @property
    def status(self) -> str:
        """``done``, ``partial``, ``not started``, or ``failed`` with the reasons."""
        if self.seeds_planned and self.seeds_measured == self.seeds_planned:
            return DONE
        words = ["partial"] if self.seeds_measured else []
        words += [f"failed: {'; '.join(self.failures)}"] if self.failures else []
        return ", ".join(words) or "not started"

    @property
    def headline(self) -> float | None:
        """Mean of the headline metric."""
        return self.metrics.get(self.metric)


def by_table(rows: Iterable[ResultRow]) -> dict[str, list[ResultRow]]:
    """Return rows by table, in order of appearance."""
    return _grouped(rows, attrgetter("table"))


def by_group(rows: Iterable[ResultRow]) -> dict[str, list[ResultRow]]:
    """Return rows by detector, in order of appearance."""
    return _grouped(rows, attrgetter("group"))


def _grouped(
    rows: Iterable[ResultRow], key: Callable[[ResultRow], str]
) -> dict[str, list[ResultRow]]:
    groups: dict[str, list[ResultRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def build(specs: Sequence[RowSpec], planned: Sequence[RowSpec] | None = None) -> list[ResultRow]:
    """Compute the results of rows from the files of their runs.

    ``planned``: all rows of the same tables, by default ``specs``. Gains are judged together with
    all planned rows, so those of a selection do not depend on it. UserError if a file of a run is
    invalid.
    """
    metrics = list(dict.fromkeys([*METRICS, *(spec.metric for spec in specs), *MEASURES]))
    measurements = Measurements()
    cells = Cells(specs if planned is None else planned, measurements)
    return [_result(spec, metrics, cells, measurements) for spec in specs]


def _result(
    spec: RowSpec, metrics: Sequence[str], cells: Cells, measurements: Measurements
) -> ResultRow:
    measured = measurements.measured(spec.results)
    means = {name: mean_std(measurements.points(spec.results, name).values()) for name in metrics}
    gain = cells.gain(spec) if spec.compared else None
    description = {part.name: getattr(spec, part.name) for part in fields(TableRow)}
    usage = total_usage(spec.runs[seed] for seed in measured)
    return ResultRow(
        **description | {"notes": (*spec.notes, *_cautions(spec, cells, measurements))},
        seeds_measured=len(measured),
        seeds_planned=len(spec.runs),
        failures=_failures(path for seed, path in spec.runs.items() if seed not in measured),
        metrics={name: mean for name, (mean, _, _) in means.items() if mean is not None},
        std=means[spec.metric].std,
        mean_interval=cells.mean_interval(spec),
        gain=gain,
        cell=cells.facts(spec),
        published_gain=spec.published_gain,
        verdict=_verdict(spec, gain),
        level_verdict=_level_verdict(spec, cells, measurements),
        usage=usage if usage.hours else None,
        size=next(filter(None, map(read_size, spec.runs.values())), None),
        latency=next(filter(None, map(read_latency, spec.runs.values())), None),
        mismatches=tuple(mismatches(spec.runs.values(), spec.baseline_runs.values(), spec.split)),
        runs=tuple(spec.runs.values()),
        baseline_runs=tuple(spec.baseline_runs.values()),
        teacher_runs=tuple(spec.teacher_runs),
    )


def _verdict(spec: RowSpec, gain: Gain | None) -> str:
    if not spec.compared:
        return ""
    return verdict(gain, spec.published_gain, spec.scale, comparable=not spec.differs)


def _level_verdict(spec: RowSpec, cells: Cells, measurements: Measurements) -> str:
    """Return the verdict on the published headline metric of a row."""
    measured = bool(measurements.points(spec.results, spec.metric))
    published = spec.published.get(spec.metric)
    interval, comparable = cells.mean_interval(spec), not spec.differs
    return level_verdict(measured, interval, published, spec.scale, comparable)


def _cautions(spec: RowSpec, cells: Cells, measurements: Measurements) -> Iterator[str]:
    """Yield remarks on a weak teacher, and on a student alone that is not reproduced."""
    yield from _weak_teacher(spec, measurements)
    baseline = cells.baseline(spec)
    if baseline is None or _level_verdict(baseline, cells, measurements) != NOT_REPRODUCED:
        return
    ours = mean_std(measurements.points(baseline.results, baseline.metric).values()).mean
    theirs = baseline.published[baseline.metric]
    yield f"its student alone is not reproduced: {number(ours)}, published {number(theirs)}"


def _weak_teacher(spec: RowSpec, measurements: Measurements) -> Iterator[str]:
    """Yield a remark if the teacher is not shown to be better than its student alone.

    It is better if the interval of the difference over resampled images is above 0; without
    resamples, if its mean is higher.
    """
    teachers = {
        seed: results_folder(run, spec.split) for seed, run in spec.teacher_detectors.items()
    }
    of_teachers, of_students = (
        measurements.points(runs, spec.metric) for runs in (teachers, spec.baseline_results)
    )
    shared = of_teachers.keys() & of_students.keys()
    if not shared:
        return
    ours, alone = (
        mean_std(values[seed] for seed in shared).mean for values in (of_teachers, of_students)
    )
    assert ours is not None and alone is not None
    samples = gain_samples(
        {seed: teachers[seed] for seed in shared}, spec.baseline_results, spec.metric
    )
    interval = None if samples is None else image_interval(samples)
    is_better = interval.low > 0 if interval else ours > alone
    if not is_better:
        limits = f", {interval.low:+.1f} to {interval.high:+.1f} over images" if interval else ""
        yield (f"{WEAK_TEACHER} ({number(ours)} and {number(alone)}{limits})")


def _failures(directories: Iterable[Path]) -> tuple[str, ...]:
    """Return the reasons that runs left in ``failure.json``, each once."""
    reports = [directory / "failure.json" for directory in directories]
    return tuple(dict.fromkeys(_reason(path) for path in reports if path.exists()))


def _reason(path: Path) -> str:
    """Return the first line of a failure's reason."""
    failure = read_json(path)
    if not isinstance(failure, dict) or not isinstance(failure.get("reason"), str):
        raise UserError(f"{path}: must hold an object with a text 'reason'")
    lines = failure["reason"].strip().splitlines()
    return lines[0] if lines else "no reason given"
