"""The ledger of submitted jobs on disk."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake_executor_plugin_submitit import ledger
from snakemake_executor_plugin_submitit.ledger import ROOT, Entry, JobBatch, new_batch


def entry(run: str = "one") -> Entry:
    return Entry(f"key-{run}", "digest", "train", {"run": run}, [f"out/{run}"], [f"{run}.log"])


def submitted(*runs: str, id: str = "57") -> JobBatch:
    batch = new_batch("slurm", [entry(run) for run in runs])
    for index, job in enumerate(batch.jobs):
        job.id, job.log = f"{id}_{index}", f"logs/{id}_{index}_0_log.out"
    batch.write()
    return batch


def test_a_written_submission_is_read_back() -> None:
    batch = submitted("one", "two")
    batch.jobs[1].verdict = {"cause": "exception", "text": "ValueError: é"}
    batch.write()
    assert ledger.batches() == [batch]
    assert ledger.entries() == batch.jobs
    first = ledger.entries()[0]
    assert (first.batch, first.cluster, first.submitted) == (batch.name, "slurm", batch.submitted)


def test_the_file_has_the_keys_that_other_programs_read() -> None:
    batch = submitted("one")
    content = json.loads((ROOT / f"{batch.name}.json").read_text())
    assert {"batch", "cluster", "submitted", "folder", "jobs"} == set(content)
    assert content["jobs"][0]["outputs"] == ["out/one"]
    assert batch.comment == f"snakemake:{batch.name}"


def test_without_a_folder_the_ledger_is_empty() -> None:
    assert ledger.entries() == []


def test_the_oldest_submission_comes_first() -> None:
    names = [submitted("one").name for _ in range(5)]
    assert len(set(names)) == 5
    assert [batch.name for batch in ledger.batches()] == sorted(names)


def test_a_submission_without_jobs_has_no_file() -> None:
    batch = submitted("one", "two")
    batch.jobs = []
    batch.write()
    assert list(ROOT.iterdir()) == []
    batch.write()  # removing an absent file is no error


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"batch": "b"}', '{"batch": 1, "cluster": "", "submitted": ""}',
     '{"batch": "b", "cluster": "slurm", "submitted": "", "jobs": [{"key": "k"}]}',
     '{"batch": "b", "cluster": "slurm", "submitted": "", "jobs": 3}', "\x00\x01"],
)  # fmt: skip
def test_a_broken_file_is_skipped(content: str) -> None:
    batch = submitted("one")
    (ROOT / "20260101-000000-broken.json").write_text(content)
    assert ledger.batches() == [batch]


def test_a_new_submission_has_no_id_and_no_verdict_yet() -> None:
    job = entry()
    job.id, job.log, job.verdict = "57", "log", {"cause": "exception", "text": ""}
    new_batch("slurm", [job])
    assert job.id is job.log is job.verdict is None
    assert job.cluster == "slurm" and job.batch


WRITER = """
import sys
from snakemake_executor_plugin_submitit.ledger import Entry, new_batch
batch = new_batch("slurm", [])
while True:
    batch.jobs = [Entry(f"key{i}", "d" * 40, "train", {}, [f"out/{i}"], []) for i in range(300)]
    batch.write()
    print("written", flush=True)
"""


def test_a_file_is_complete_at_any_time(folder: Path) -> None:
    """Kill a process that writes continuously."""
    program = [sys.executable, "-c", WRITER]
    with subprocess.Popen(program, stdout=subprocess.PIPE, cwd=folder, text=True) as writer:
        assert writer.stdout
        for _ in range(20):
            assert writer.stdout.readline() == "written\n"
            assert len(ledger.entries()) == 300
        os.kill(writer.pid, signal.SIGKILL)
    assert len(ledger.entries()) == 300


def test_the_name_of_a_job_is_its_rule_and_wildcards() -> None:
    job = Entry("k", "d", "train", {"seed": "2", "run": "a b"}, [], [])
    assert job.name == "train run=a b seed=2"


def test_digests_of_different_lists_differ() -> None:
    assert ledger.sha1(["ab", "c"]) != ledger.sha1(["a", "bc"])
    assert ledger.sha1(["é"]) == ledger.sha1(["é"])
