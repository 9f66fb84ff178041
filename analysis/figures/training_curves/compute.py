"""Table of training curves: losses, shares, learning rate and AP, from the logs of runs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.runs.groups import RunGroup
from analysis.statistics.seeds import POINTS
from kd.common.errors import UserError
from kd.evaluation.metrics import Metrics

COLUMNS = ("run", "seed", "quantity", "term", "step", "epoch", "value")
POINTS_PER_CURVE = 50
"""Points of the longest curve after the default smoothing."""


class Log(NamedTuple):
    """Valid records of a file of JSON lines, and the number of its other lines."""

    records: list[dict[str, Any]]
    damaged: int


def compute_tables(groups: Sequence[RunGroup], metric: str) -> tuple[dict[str, pd.DataFrame], int]:
    """Return a table with one recorded value in each line, and the number of damaged log lines.

    ``quantity`` is ``loss`` (the sum), ``detection`` or ``distillation`` (a weighted ``term`` of
    it), ``share`` (a distillation term's part of the sum, per cent), ``lr``, or ``metric`` in
    points. The ``term`` of a metric is the split of an epoch, ``val`` or ``test``, or ``final``:
    the finished run on the test split, unless its epochs were measured on ``val``.
    UserError if no run has a log.
    """
    lines: list[tuple[Any, ...]] = []
    damaged = 0
    for group in groups:
        for seed, directory in group.runs.items():
            log, validation = (
                read_log(directory / f"{name}.jsonl") for name in ("log", "validation")
            )
            damaged += log.damaged + validation.damaged
            values = [*_logged_values(log), *_metric_values(directory, metric, log, validation)]
            lines += [(group.label, seed, *value) for value in values]
    if not lines:
        raise UserError("none of the runs has a log.jsonl; published weights have none")
    frame = pd.DataFrame(lines, columns=COLUMNS).astype({"value": float})
    return {"training_curves": frame}, damaged


def read_log(path: Path) -> Log:
    """Return the records of ``log.jsonl`` or ``validation.jsonl``; none if there is no file.

    Lines that are incomplete, or have no step, are skipped.
    """
    if not path.exists():
        return Log([], 0)
    records, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and "step" in record:
            records.append(record)
        else:
            damaged += 1
    return Log(records, damaged)


def _logged_values(log: Log) -> Iterator[tuple[Any, ...]]:
    for record in log.records:
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
    """Return the name of a loss term without ``loss``."""
    return "" if name == "loss" else name.replace("loss_", "")


def _metric_values(
    directory: Path, metric: str, log: Log, validation: Log
) -> Iterator[tuple[Any, ...]]:
    """Yield the metric of each validated epoch, and that of the finished run at its last step.

    They are all of one split: those on the test split are left out if there are others.
    """
    splits = [record.get("split", "test") for record in validation.records]
    split = "val" if "val" in splits else "test"
    for record, measured_on in zip(validation.records, splits, strict=True):
        if measured_on == split and record.get(metric) is not None:
            yield metric, split, record["step"], record.get("epoch"), POINTS * record[metric]
    path = directory / "metrics.json"
    if split == "test" and log.records and path.exists():
        value, last = getattr(Metrics.read(path), metric), log.records[-1]
        if value is not None:
            yield metric, "final", last["step"], last.get("epoch"), POINTS * value


def split_name(values: pd.DataFrame) -> str:
    """Return the split, or both, of the lines of a metric, in words."""
    words = {"val": "validation split", "test": "test split", "final": "test split"}
    return " or ".join(dict.fromkeys(words[term] for term in values["term"]))


def average(lines: pd.DataFrame, smooth: int) -> pd.DataFrame:
    """Return a curve over the seeds: step, mean, and the lowest and highest seed.

    Values of each run are first averaged over blocks of ``smooth`` steps; 0 averages no steps.
    """
    blocks = (lines["step"] - 1) // smooth if smooth else lines["step"]
    runs = lines.groupby([blocks.rename("block"), "seed"])[["step", "value"]].mean()
    curve = runs.groupby("block").agg(
        step=("step", "mean"), mean=("value", "mean"), low=("value", "min"), high=("value", "max")
    )
    return curve.reset_index(drop=True)


def default_smoothing(frame: pd.DataFrame) -> int:
    """Return the steps of a block that give the longest curve ``POINTS_PER_CURVE`` points."""
    return int(frame["step"].max() // POINTS_PER_CURVE)


def total_share(shares: pd.DataFrame) -> pd.DataFrame:
    """Return the share of all distillation terms together in the loss of each record, per cent."""
    return shares.groupby(["run", "seed", "step"], sort=False)["value"].sum().reset_index()
