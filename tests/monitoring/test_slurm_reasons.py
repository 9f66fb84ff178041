"""Slurm's reason codes in plain words, and Slurm's times."""

import pytest

from kd.common.durations import duration
from kd.monitoring.slurm_reasons import explain_reason, seconds


@pytest.mark.parametrize(
    ("reason", "explanation"),
    [
        ("QOSMaxGRESPerUser", "your limit for this QOS is reached"),
        ("AssocGrpCPUMinutesLimit", "the account's share is used up"),
        ("ReqNodeNotAvail, UnavailableNodes:lab1", "the nodes it needs are down"),
        ("Nodes_required_for_job_are_DOWN,_DRAINED", "the nodes it needs are down"),
        ("DependencyNeverSatisfied", "waits for a job that failed"),
        ("Dependency", "waits for another job"),
        ("None", "not yet scheduled by Slurm"),
        ("BurstBufferStageIn", "BurstBufferStageIn"),
    ],
)
def test_reason_codes_are_explained(reason: str, explanation: str) -> None:
    assert explain_reason(reason).startswith(explanation)


def test_times_of_slurm_are_seconds() -> None:
    clocks = ["1-02:03:04", "3:10:00", "45:10", "0:07", "UNLIMITED", ""]
    assert [seconds(clock) for clock in clocks] == [93784, 11400, 2710, 7, None, None]


def test_durations_have_two_units() -> None:
    durations = [59.6, 3599, 15000, 200000]
    texts = ["1 m 00 s", "59 m 59 s", "4 h 10 m", "2 d 07 h"]
    assert [duration(time) for time in durations] == texts
