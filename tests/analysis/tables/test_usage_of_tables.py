"""Usage of runs together: sums, and energy only if known for all."""

from pathlib import Path
from typing import Any

import pytest

from analysis.tables.usage import total_usage
from kd.common.errors import UserError
from kd.common.files import write_json
from kd.resources.usage import Usage, read_usage


def run(folder: Path, **record: Any) -> Path:
    """Return a directory with the record of a training of two hours on two GPUs."""
    took = {"seconds": 7200.0, "gpu_seconds": 14400.0, "images_per_second": 10.0}
    write_json(folder / "provenance.json", took | {"peak_memory_mb": 500} | record)
    return folder


def test_usage_is_in_hours_and_kwh(tmp_path: Path) -> None:
    directory = run(tmp_path, energy_joules=1.8e6)
    assert read_usage(directory) == Usage(2.0, 4.0, 10.0, 500, 0.5)


def test_an_unfinished_run_has_no_usage(tmp_path: Path) -> None:
    assert read_usage(tmp_path) is None
    assert total_usage([tmp_path]) == Usage(0.0, 0.0, None, None, None)


@pytest.mark.parametrize("record", [{}, {"energy_joules": None}])
def test_unmeasured_energy_is_unknown(tmp_path: Path, record: dict[str, Any]) -> None:
    directory = run(tmp_path, **record)
    assert read_usage(directory) == Usage(2.0, 4.0, 10.0, 500, None)


def test_imported_weights_used_no_training(tmp_path: Path) -> None:
    write_json(tmp_path / "provenance.json", {"published_checkpoint": {"source": "x"}})
    assert read_usage(tmp_path) == Usage(0.0, 0.0, None, None, 0.0)


@pytest.mark.parametrize("content", [[], {}, {"seconds": "long"}])
def test_an_invalid_record_is_refused_by_name(tmp_path: Path, content: Any) -> None:
    write_json(tmp_path / "provenance.json", content)
    with pytest.raises(UserError, match=r"provenance\.json: not the record of a training"):
        read_usage(tmp_path)


def test_a_total_sums_each_run_once(tmp_path: Path) -> None:
    one = run(tmp_path / "one", energy_joules=3.6e6)
    other = run(
        tmp_path / "other", seconds=3600.0, gpu_seconds=0.0, images_per_second=40.0,
        peak_memory_mb=900, energy_joules=7.2e6,
    )  # fmt: skip
    # Images: 10 a second for two hours and 40 for one, in three.
    assert total_usage([one, other, one]) == Usage(3.0, 4.0, pytest.approx(20.0), 900, 3.0)


def test_the_total_energy_is_unknown_if_one_run_lacks_it(tmp_path: Path) -> None:
    measured = run(tmp_path / "measured", energy_joules=3.6e6)
    assert total_usage([measured, run(tmp_path / "not")]).energy_kwh is None
