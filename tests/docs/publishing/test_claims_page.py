"""Page of claims, generated from the studies."""

from pathlib import Path

import pytest

from docs.build.claims import PAGE, page
from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import plan
from tests.support.paths import CONFIGS, REPOSITORY


def test_the_page_is_current_whatever_results_are_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    library = Library(CONFIGS)
    run = next(iter(plan("mgd", "paper", library).runs.values()))
    usage = {"seconds": 3600, "gpu_seconds": 3600, "images_per_second": 1, "peak_memory_mb": 1}
    write_json(run.directory / "provenance.json", usage)
    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    assert page(library) == text, "run `python -m docs.build.claims`"
