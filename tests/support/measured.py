"""Measured runs on disk: metrics of a plan's runs, without trainings."""

from kd.common.files import write_json
from kd.config.plan import Plan
from kd.evaluation.metrics import Metrics


def measure(plan: Plan, row: str, *points: float | None) -> None:
    """Write metrics of a row's first seeds; ``row``: the name of its method."""
    (method_row,) = (planned for planned in plan.rows if planned.method == row)
    for run, value in zip(method_row.runs.values(), points, strict=False):
        content = dict.fromkeys(Metrics.model_fields)
        content |= {"AP": None if value is None else value / 100, "per_class": {}}
        content |= {"images": 8, "boxes": 20, "detections": 80}
        write_json(run.directory / "metrics.json", content)
