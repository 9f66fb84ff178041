"""Our configurations beside mmdet's: every difference has a reason, every reason a difference."""

from collections.abc import Iterator

import pytest

from docs.build.fidelity.page import PAGE, page
from docs.build.fidelity.tables import FidelityTables, Reason
from kd.config.library import Library
from tests.support.paths import CONFIGS


@pytest.fixture(scope="module")
def tables() -> FidelityTables:
    return FidelityTables(Library(CONFIGS))


@pytest.fixture
def reasons(tables: FidelityTables) -> Iterator[list[Reason]]:
    """Return the reasons of ``tables`` for a change that ends with the test."""
    reasons = list(tables.reasons)
    yield tables.reasons
    tables.reasons = reasons


def test_the_page_is_current(tables: FidelityTables) -> None:
    message = "run `python -m docs.build.fidelity`"
    assert (CONFIGS.parent / PAGE).read_text(encoding="utf-8") == page(tables), message


def test_every_difference_has_a_reason_and_every_reason_a_difference(
    tables: FidelityTables,
) -> None:
    assert not tables.problems()


def test_every_detector_is_beside_one_of_mmdets(tables: FidelityTables) -> None:
    compared = {pair.detector for pair in tables.pairs.values()}
    assert compared == {*tables.library.names("detectors")}


def test_a_difference_without_a_reason_is_named(
    tables: FidelityTables, reasons: list[Reason]
) -> None:
    tables.reasons = [reason for reason in reasons if reason.path != "schedule.decay.T_max"]
    lines = tables.problems()
    assert len(lines) == 4
    assert lines[0] == (
        "yolox_tiny_8xb8-300e_coco: 'schedule.decay.T_max' is 280 here and 285 in mmdet; correct "
        "it, or add its reason to docs/build/fidelity/reasons.yaml"
    )


def test_a_reason_without_a_difference_is_named(
    tables: FidelityTables, reasons: list[Reason]
) -> None:
    outdated = Reason(path="model.neck.num_outs", only=("atss_*",), reason="None.")
    tables.reasons = [*reasons, outdated]
    assert tables.problems() == [
        "docs/build/fidelity/reasons.yaml: 'model.neck.num_outs' for atss_* explains nothing; "
        "delete it"
    ]


def test_a_reason_that_another_one_precedes_is_named(
    tables: FidelityTables, reasons: list[Reason]
) -> None:
    path = "data.training.*.filter.min_size"
    tables.reasons = [Reason(path=path, reason="Other."), *reasons]
    (line,) = tables.problems()
    assert line.startswith(f"docs/build/fidelity/reasons.yaml: '{path}' for *")
