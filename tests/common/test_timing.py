"""Cases are timed in turn and compared round by round."""

import pytest

from kd.common import timing
from kd.common.timing import Quartiles, in_turn, quartiles, ratio


class Time:
    """Clock that advances only when a test sets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    still = Time()
    monkeypatch.setattr(timing, "time", still)
    return still


def test_a_spread_is_median_and_quartiles_of_measurements() -> None:
    assert quartiles([4, 1, 3, 5, 2]) == Quartiles(median=3, low=2, high=4, rounds=5)
    assert quartiles([7.5]) == Quartiles(7.5, 7.5, 7.5, 1)


def test_a_ratio_is_taken_round_by_round() -> None:
    slow_machine = [10.0, 20.0, 1000.0]
    assert ratio([2 * seconds for seconds in slow_machine], slow_machine) == Quartiles(2, 2, 2, 3)


def test_a_ratio_of_other_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_cases_run_in_turn_and_the_first_round_does_not_count(time: Time) -> None:
    ran: list[str] = []

    def case(name: str) -> None:
        ran.append(name)
        time.now += len(ran)

    cases = {name: lambda name=name: case(name) for name in ("a", "b")}
    assert in_turn(cases, rounds=2) == {"a": [3, 5], "b": [4, 6]}
    assert ran == ["a", "b"] * 3
