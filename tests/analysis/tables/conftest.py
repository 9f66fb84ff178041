"""Made-up runs of a table in every state, with metrics counted by hand."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.tables.rows import ResultRow, RowSpec, build
from kd.evaluation.metrics import COCO_METRICS

DIFFERS = "2x schedule & a trained student (50% of its layers)"
REMARK = "quoted from Table 6 of another paper"
REASON = "out of memory: 17 GB of 16"


def metrics(ap: float, **figures: float | None) -> dict[str, Any]:
    """Return the content of metrics.json with every metric ``ap`` except ``figures``."""
    names = (*COCO_METRICS, "VOC07", "VOC12")
    counts = {"per_class": {}, "images": 1, "boxes": 1, "detections": 1}
    return dict.fromkeys(names, ap) | figures | counts


def resamples(ap: float, spread: float) -> dict[str, Any]:
    """Return resampled.npz: after ``ap`` a thousand values from it up to ``spread`` more."""
    values = np.concatenate([[ap], np.linspace(ap, ap + spread, 1000)]).astype(np.float32)
    return {"AP": values, "AP50": values, "VOC07": values, "split": np.array("test")}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run directory: measured, failed or empty."""

    def make(
        name: str,
        ap: float | None = None,
        failure: str | None = None,
        hours: float | None = None,
        gpus: int = 0,
        spread: float | None = None,
        record: Mapping[str, Any] | None = None,
        **figures: float | None,
    ) -> Path:
        path = tmp_path / name
        path.mkdir()
        if ap is not None:
            (path / "metrics.json").write_text(json.dumps(metrics(ap, **figures)))
        if failure is not None:
            (path / "failure.json").write_text(json.dumps({"reason": failure}))
        if hours is not None:
            seconds = {"seconds": 3600 * hours, "gpu_seconds": 3600 * hours * gpus}
            rest = {"images_per_second": 20.0, "peak_memory_mb": 1500, "inputs": {}}
            (path / "provenance.json").write_text(json.dumps(seconds | rest | (record or {})))
        if ap is not None and spread is not None:
            np.savez(path / "resampled.npz", **resamples(100 * ap, spread))
        return path

    return make


@pytest.fixture
def rows(run: Callable[..., Path]) -> list[RowSpec]:
    """Return a table of two groups with rows in every state."""
    teacher = run("t", 0.361, hours=4)
    baseline = {s: run(f"b{s}", ap, hours=1) for s, ap in enumerate((0.300, 0.310, 0.320))}
    students = {s: run(f"s{s}", ap, hours=2) for s, ap in enumerate((0.310, 0.330, 0.350))}
    even = {s: run(f"e{s}", ap) for s, ap in enumerate((0.319, 0.330, 0.341))}
    halfway = {0: run("h0", 0.305, APL=None), 1: run("h1", failure="killed"), 2: run("h2")}
    failed = {s: run(f"f{s}", failure=f"{REASON}\nTraceback ...") for s in (0, 1)}
    published = {
        "published": {"AP": 34.8, "AP50": 53.2},
        "published_baseline": {"AP": 31.9},
        "source": "arXiv 1",
    }

    def row(group: str, label: str, runs: dict[int, Path], **more: Any) -> RowSpec:
        ours = {"baseline_runs": baseline, "teacher_runs": [teacher], "scale": "paper"}
        return RowSpec("Table 1", group, label, "distilled", "R50", "R18", runs, **ours | more)

    return [
        RowSpec("Table 1", "RetinaNet", "Teacher", "teacher", "R50", "", {0: teacher}),
        RowSpec("Table 1", "RetinaNet", "Student", "baseline", "", "R18", baseline),
        row("RetinaNet", "RM + PFI", students, **published),
        row("RetinaNet", "even", even),
        row("RetinaNet", "half_way", halfway, **published | {"differs": (DIFFERS,)}),
        row(
            "FCOS", "KD_cls | loc", failed, **published | {"notes": (REMARK,), "source": "arXiv 2"}
        ),
        row("FCOS", "absent", {0: run("a0"), 1: run("a1")}),
    ]


@pytest.fixture
def results(rows: list[RowSpec]) -> list[ResultRow]:
    """Return the results of the table."""
    return build(rows)
