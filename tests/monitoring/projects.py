"""Runs of the tiny study, their files, their jobs in the ledger, and a fake ``squeue``."""

import json
import os
import time
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.ledger import Entry, new_batch

from kd.config.library import Library
from kd.config.plan import plan

TINY = ["tiny", "--scale", "tiny"]
STEPS, BATCH, RATE = 120, 4, 8.0
RECORD = {"step": 30, "steps": STEPS, "epoch": 1, "images_per_second": RATE}
"""Last record of a training's step log."""


def write_planned_run(contains: str) -> Path:
    """Write the one run of the tiny study whose name contains a text; return its directory."""
    runs = plan("tiny", "tiny", Library()).runs
    (run,) = (run for name, run in runs.items() if contains in name)
    run.write()
    return run.directory


def write(path: Path, content: Any = "") -> None:
    """Write a text, or an object as one line of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content) + "\n")


def write_log(run: Path, record: dict[str, Any], age: float = 0) -> None:
    """Write a training's logs as if ``age`` seconds ago."""
    write(run / "log.jsonl", record)
    write(run / "train.log", "epoch 1\n")
    for name in ("log.jsonl", "train.log"):
        os.utime(run / name, (time.time() - age,) * 2)


def submit(run: Path, id: str | None, rule: str = "train", **fields: Any) -> Entry:
    """Write a job of a run to the ledger."""
    output = {"predict": "detections.json.gz"}.get(rule, "weights.pth")
    entry = Entry("key", "digest", rule, {"run": run.name}, [str(run / output)], [])
    batch = new_batch(fields.pop("cluster", "slurm"), [entry])
    entry.id, entry.log = id, "logs/slurm/train/job_log.out"
    for name, value in fields.items():
        setattr(entry, name, value)
    batch.write()
    return entry


def install_squeue(project: Path, *lines: str, status: int = 0) -> Path:
    """Install a ``squeue`` that prints lines; return the file that records its calls."""
    calls, script = project / "calls", project / "bin" / "squeue"
    answer = "\n".join(lines)
    write(project / "answer", answer + "\n" if answer else "")
    text = f"#!/bin/sh\necho call >> {calls}\n"
    text += f"echo 'squeue: error: {answer}' >&2; exit {status}\n" if status else ""
    text += f'while read -r line; do echo "$line"; done < {project / "answer"}\n'
    write(script, text)
    script.chmod(0o755)
    return calls
