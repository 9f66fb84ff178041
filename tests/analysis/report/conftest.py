"""A small study in every state, with metrics counted by hand, and a browser for its page."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from analysis.report.page import Page, ReportRequest, write
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.published import COLUMNS
from kd.config.selection import StudyOptions
from tests.analysis.tables.conftest import metrics
from tests.support import machine
from tests.support.tiny import edit, make_project

TINY = ReportRequest("tiny", "tiny", StudyOptions(seeds=2))
HOSTILE = "</script><img src=x onerror=alert(1)>"
STUDY = "configs/studies/tiny.yaml"
PUBLISHED = [
    {"student": "r18", "method": "baseline", "AP": 31.9},
    {"teacher": "r50", "student": "r18", "method": "rm", "AP": 33.3, "note": "quoted"},
    {"teacher": "r50", "student": "r18", "method": "rm+pfi", "AP": 34.8},
]
RECORD = {
    "started": "2026-01-02T03:04:05+00:00", "finished": "2026-01-02T04:04:05+00:00", "steps": 12,
    "seconds": 3600, "gpu_seconds": 7200, "images_per_second": 20.04, "peak_memory_mb": 1500,
    "energy_joules": 3.6e6, "inputs": {"data": "da7a" * 16}, "weights_sha256": "beef" * 16,
    "commit": "c0ffee" * 6 + "c0ff", "packages": {"torch": "2.11.0"}, "python": "3.11.7",
    "cpu": "x86_64", "threads": 4, "devices": ["GPU T", "GPU T"], "slurm_job": "77",
    "command": "kd train it",
}  # fmt: skip
"""Provenance of one hour on two GPUs that used 1 kWh."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a project of the tiny study with published numbers and without results."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    common = {"table": "T9", "dataset": "coco2017", "schedule": "1x", "detector": "retinanet"}
    common |= {"source": "A paper", "framework": "mmdetection"}
    lines = pd.DataFrame([common | line for line in PUBLISHED], columns=COLUMNS)
    lines.to_csv("configs/published/tiny.csv", index=False)
    edit(STUDY, published="tiny.csv", tables__pair__published="T9")
    return tmp_path


def runs_of(contains: str, request: ReportRequest = TINY) -> list[Path]:
    """Return the directories of the runs of the study whose name contains a text."""
    planned = plan(request.study, request.scale, Library(), request.options)
    runs = [run for name, run in planned.runs.items() if contains in name]
    for run in runs:
        run.write()
    return [run.directory for run in runs]


def finish(directory: Path, ap: float, **record: Any) -> None:
    """Write the files of a finished run, with every metric ``ap``."""
    (directory / "metrics.json").write_text(json.dumps(metrics(ap)))
    (directory / "provenance.json").write_text(json.dumps(RECORD | record))
    (directory / "train.log").write_text("epoch 1 of 2\nepoch 2 of 2\n")


def fail(directory: Path, reason: str) -> None:
    """Write the failure of a run."""
    record = {"reason": reason, "kind": "OutOfMemoryError", "time": "2026-01-02T03:04:05+00:00"}
    (directory / "failure.json").write_text(json.dumps(record))


def complete() -> None:
    """Finish every run: the baseline has 30 and 32, rm 31 and 35, rm+pfi 29 and 31, teacher 40."""
    for contains, aps in (
        ("r18-w0.1875/alone", [0.40]),
        ("r18-w0.125/alone", [0.30, 0.32]),
        ("/rm_from", [0.31, 0.35]),
        ("/rm+pfi_from", [0.29, 0.31]),
    ):
        for directory, ap in zip(runs_of(contains), aps, strict=True):
            finish(directory, ap)


def draw(name: str = "curves") -> None:
    """Add a figure to the study, and write its pictures and caption."""
    edit(STUDY, figures={name: {"analysis": "training_curves"}})
    folder = TINY.folder / "figures" / name
    folder.mkdir(parents=True)
    for picture in ("training_curves", "training_curves-terms", "training_curves-shares"):
        Image.new("RGBA", (2100, 300), (0, 0, 90, 128)).save(folder / f"{picture}.png")
    caption = (
        "# Curves\n\nThe *highest* AP is 35.0 <img src=x onerror=alert(1)>.\n\nA definition.\n"
    )
    (folder / "caption.md").write_text(caption)


def write_page(request: ReportRequest = TINY) -> Page:
    """Write the page of a request and return it."""
    planned = plan(request.study, request.scale, Library(), request.options)
    return write(request, planned, Library())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return Chromium without a window.

    It ends with its module, because Playwright runs an event loop in this process. Other tests
    start event loops and fork, which would fail or hang.
    """
    path = machine.chromium()
    # Root cannot start its sandbox, nor can any user where the kernel denies user namespaces. The
    # pages are this project's own. Containers may have a /dev/shm of 64 MB.
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@pytest.fixture
def show(browser: Browser) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a file; console messages, errors and requests fail the test."""
    trouble: list[str] = []
    contexts = []

    def opened(path: Path, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        address = path.resolve().as_uri()
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("data:", address)) or trouble.append(request.url)
            ),
        )
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []
