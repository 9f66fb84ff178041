"""Training curves: what the runs have written down of their training, and how it is drawn."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.plotting.style import QUIET, STYLE, WIDTH, Look, legend, legend_height
from analysis.runs.groups import RunGroup
from analysis.statistics.seeds import POINTS
from kd.evaluation.metrics import Metrics

COLUMNS = ("run", "seed", "quantity", "term", "step", "epoch", "value")
POINTS_A_CURVE = 50
"""To which the records of the longest training are averaged, unless told otherwise."""
ACROSS = 4
"""Panels of terms in a row."""
BAND = 0.2
"""Opacity of the band between the seeds."""
WIDE = 30
"""Largest over smallest value from which on an axis is logarithmic."""
MARKS = 5
"""About so many markers on a line."""


class Log(NamedTuple):
    """The whole records of a file of JSON lines, and how many lines were none."""

    records: list[dict[str, Any]]
    damaged: int


def records(path: Path) -> Log:
    """Return the records of ``log.jsonl`` or ``validation.jsonl``; none where there is no file.

    A line that is half written, or no record of a step, is passed over.
    """
    if not path.exists():
        return Log([], 0)
    found, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and "step" in record:
            found.append(record)
        else:
            damaged += 1
    return Log(found, damaged)


def read(groups: Sequence[RunGroup], metric: str) -> tuple[pd.DataFrame, int]:
    """Return what the runs wrote down, one value a line, and the number of damaged lines.

    ``quantity``: ``loss`` (the sum), ``detection`` or ``distillation`` (a weighted ``term`` of it),
    ``share`` (a distillation term's part of the sum, per cent), ``lr``, or ``metric`` in points
    (``term`` is then ``validation`` or, of the finished run, ``final``).
    """
    lines: list[tuple[Any, ...]] = []
    damaged = 0
    for group in groups:
        for seed, directory in group.runs.items():
            log, validation = (
                records(directory / f"{name}.jsonl") for name in ("log", "validation")
            )
            damaged += log.damaged + validation.damaged
            values = [*_logged(log.records), *_measured(directory, metric, log, validation)]
            lines += [(group.label, seed, *value) for value in values]
    frame = pd.DataFrame(lines, columns=COLUMNS)
    return frame.astype({"value": float}), damaged


def _logged(found: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for record in found:
        at, shares = (record["step"], record.get("epoch")), record.get("share", {})
        if "lr" in record:
            yield "lr", "", *at, record["lr"]
        for name, value in record.items():
            if "loss" in name:
                kind = "distillation" if name in shares else "detection"
                yield "loss" if name == "loss" else kind, _term(name), *at, value
        for name, value in shares.items():
            yield "share", _term(name), *at, 100 * value


def _term(name: str) -> str:
    """Return a loss term's name without ``loss``, which all of them have."""
    return "" if name == "loss" else name.replace("loss_", "")


def _measured(directory: Path, metric: str, log: Log, validation: Log) -> Iterator[tuple[Any, ...]]:
    """Yield the figure of each validated epoch, and that of the finished run at its last step."""
    for record in validation.records:
        if record.get(metric) is not None:
            yield metric, "validation", record["step"], record.get("epoch"), POINTS * record[metric]
    path = directory / "metrics.json"
    if log.records and path.exists():
        value, last = getattr(Metrics.read(path), metric), log.records[-1]
        if value is not None:
            yield metric, "final", last["step"], last.get("epoch"), POINTS * value


def averaged(lines: pd.DataFrame, smooth: int) -> pd.DataFrame:
    """Return a curve: step, mean, and lowest and highest seed.

    The values of each run are first averaged over blocks of ``smooth`` steps, 0: not at all.
    """
    blocks = (lines["step"] - 1) // smooth if smooth else lines["step"]
    runs = lines.groupby([blocks.rename("block"), "seed"])[["step", "value"]].mean()
    curve = runs.groupby("block").agg(
        step=("step", "mean"), mean=("value", "mean"), low=("value", "min"), high=("value", "max")
    )
    return curve.reset_index(drop=True)


def width(frame: pd.DataFrame) -> int:
    """Return the steps to average over that leave ``POINTS_A_CURVE`` of the longest training."""
    longest = frame["step"].max()
    return int(longest // POINTS_A_CURVE) if len(frame) else 0


def plot(frame: pd.DataFrame, looks: dict[str, Look], metric: str, smooth: int) -> Figure:
    """Return three panels over the steps: loss, figure and learning rate; a line for each row."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.2 + legend_height(looks)), layout="constrained")
        left, middle, right = figure.subplots(1, 3, sharex=True)
        _curves(left, _of(frame, "loss"), looks, smooth)
        _title(left, "Training loss", "Loss (sum of its terms)")
        _figures(middle, _of(frame, metric), looks)
        _title(middle, f"{metric} on the test split", f"{metric} (points)")
        _rates(right, _of(frame, "lr"), looks)
        _title(right, "Learning rate", "Learning rate")
        legend(figure, looks)
    return figure


def plot_terms(frame: pd.DataFrame, looks: dict[str, Look], smooth: int) -> Figure:
    """Return a panel for each loss term, those of detection first; a line for each row."""
    panels = [
        (str(term), lines)
        for kind in ("detection", "distillation")
        for term, lines in _of(frame, kind).groupby("term", sort=False)
    ]
    return _grid(panels, looks, smooth, "Weighted term")


def plot_shares(frame: pd.DataFrame, looks: dict[str, Look], smooth: int) -> Figure:
    """Return a panel for each distillation term's share of the loss, after that of them all."""
    shares = _of(frame, "share")
    panels = [(str(term), lines) for term, lines in shares.groupby("term", sort=False)]
    if len(panels) > 1:
        panels.insert(0, ("all distillation terms", total_share(shares)))
    return _grid(panels, looks, smooth, "Share of the loss (%)")


def total_share(shares: pd.DataFrame) -> pd.DataFrame:
    """Return what all distillation terms together are of the loss of each record, per cent."""
    return shares.groupby(["run", "seed", "step"], sort=False)["value"].sum().reset_index()


def _of(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return frame[frame["quantity"] == quantity]


def _grid(
    panels: list[tuple[str, pd.DataFrame]], looks: dict[str, Look], smooth: int, label: str
) -> Figure:
    across = min(max(len(panels), 1), ACROSS)
    down = -(-len(panels) // across) or 1
    runs = {run for _, lines in panels for run in lines["run"]}
    shown = {run: look for run, look in looks.items() if run in runs}
    with rc_context(STYLE):
        size = (WIDTH, 1.15 * down + 0.5 + legend_height(shown))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharex=True)
        for number, (axes, (name, lines)) in enumerate(zip(grid.flat, panels, strict=False)):
            _curves(axes, lines, looks, smooth)
            axes.set_title(name, loc="left", fontsize=8)
            axes.tick_params(labelbottom=number + across >= len(panels))
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        if not panels:
            figure.text(0.5, 0.5, "no distillation term", ha="center", color=QUIET)
            return figure
        figure.supylabel(label, fontsize=8)
        figure.supxlabel("Step", fontsize=8)
        legend(figure, shown)
    return figure


def _curves(axes: Axes, lines: pd.DataFrame, looks: dict[str, Look], smooth: int) -> None:
    """Draw each row's mean over its seeds and the band between them; the axis is made to fit."""
    for place, (run, own) in enumerate(lines.groupby("run", sort=False)):
        look, curve = looks[str(run)], averaged(own, smooth)
        # Markers tell lines apart in grey; each row's start elsewhere, so that none hides another.
        apart = max(len(curve) // MARKS, 1)
        every = (place * apart // max(lines["run"].nunique(), 1), apart)
        _line(axes, curve, look, label=run, markersize=2.5, markevery=every)
        if own["seed"].nunique() > 1:
            axes.fill_between(
                curve["step"], curve["low"], curve["high"],
                color=look.colour, alpha=BAND, linewidth=0,
            )  # fmt: skip
    values = lines["value"]
    if len(values) and values.min() > 0 and values.max() > WIDE * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    _rule(axes)


def _figures(axes: Axes, lines: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw a mark for each measured epoch; hollow, so that equal ones are both seen."""
    for run, own in lines.groupby("run", sort=False):
        curve = averaged(own, 0)
        _line(axes, curve, looks[str(run)], label=run, markersize=4.5, markerfacecolor="none")
        reach = (curve["mean"] - curve["low"], curve["high"] - curve["mean"])
        if own["seed"].nunique() > 1:
            axes.errorbar(
                curve["step"], curve["mean"], yerr=reach, linestyle="none", capsize=2,
                color=looks[str(run)].colour, elinewidth=0.8,
            )  # fmt: skip
    _rule(axes)


def _rates(axes: Axes, lines: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw the learning rates; where all runs have the same, it is one line and nobody's."""
    lengths = lines.groupby("run")["step"].max()
    if lines["run"].nunique() < 2 or (
        lengths.nunique() == 1 and lines.groupby("step")["value"].nunique().max() == 1
    ):
        same = Look("0.2", "-", "", "")
        name = "all runs" if lines["run"].nunique() > 1 else ""
        axes.text(0.98, 0.95, name, ha="right", transform=axes.transAxes, color=QUIET)
        _curves(axes, lines.assign(run=name), {name: same}, 0)
    else:
        _curves(axes, lines, looks, 0)


def _line(axes: Axes, curve: pd.DataFrame, look: Look, **more: Any) -> None:
    axes.plot(curve["step"], curve["mean"], linewidth=1.0, marker=look.marker, **look.line, **more)


def _rule(axes: Axes) -> None:
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def _title(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_ylabel(label)
    axes.set_xlabel("Step")
