"""Suites of invented benchmarks: their budgets, ends, interruptions and tables."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.suites.budget import Part, benchmark, last_line, limit
from benchmarks.suites.run import Suite
from tests.support.paths import REPOSITORY
from tests.support.processes import gone, until

WRITE = """
import json, os, sys
from pathlib import Path
from typing import Any
name = sys.argv[sys.argv.index("--name") + 1]
path = Path("results/benchmarks", name + ".json")
path.parent.mkdir(parents=True, exist_ok=True)
value = {"median": 2.0, "low": 1.0, "high": 3.0, "rounds": 3}
line = {"what": "speed", "value": value, "most": None, "least": 1.0}
path.write_text(json.dumps({"lines": [line, line | {"what": "- detail", "least": None}]}))
"""
HANG = """
import signal
Path(f"{Path(name).name}.started").write_text(str(os.getpid()))
while True:
    signal.pause()
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
CHILD = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
Path("child").write_text(str(child.pid))
"""
LONG = 600.0
"""Seconds of a budget that no test uses up."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def part(name: str, program: str, seconds: float = 60.0, **options: Any) -> Part:
    """Return a part that runs a program, with a file for it."""
    path = Path(f"{name}.py").resolve()
    path.write_text(program, encoding="utf-8")
    return Part(name, str(path), seconds, **options)


def run(*parts: Part, seconds: float = LONG) -> Suite:
    """Return a suite whose parts have run within the seconds."""
    suite = Suite("gpu", False, parts)
    suite.run(time.monotonic() + seconds, [])
    return suite


def ends(suite: Suite) -> dict[str, str]:
    return {outcome.part.name: outcome.state for outcome in suite.outcomes}


def table() -> Any:
    return json.loads(Path("results/benchmarks/gpu/suite-gpu.json").read_text(encoding="utf-8"))


def pid(name: str) -> int:
    """Return the process id in a file; 0 until it is written."""
    path = Path(name)
    return int((path.exists() and path.read_text(encoding="utf-8")) or 0)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(100, 60), (60, 20), (35, 20), (20, 20)],
    ids=["40 s to spare", "exactly enough", "later ones lack time", "enough for this one"],
)
def test_a_part_gets_its_budget_and_what_later_parts_do_not_need(
    seconds: float, expected: float
) -> None:
    first, *later = (Part("a", "a.py", 20), Part("b", "b.py", 30), Part("c", "c.py", 10))
    assert limit(first, later, seconds) == expected


def test_each_part_adds_its_main_lines_to_the_table() -> None:
    suite = run(part("one", WRITE), part("two", WRITE))
    assert ends(suite) == {"one": "done", "two": "done"}
    assert [line.what for line in suite.lines] == ["one: speed", "two: speed"]
    assert [line["what"] for line in table()["lines"]] == ["one: speed", "two: speed"]
    assert not suite.has_failed


def test_a_part_without_its_requirement_is_skipped_with_the_reason() -> None:
    suite = run(part("one", WRITE, needs=(lambda: "", lambda: "no triton")), part("two", WRITE))
    assert ends(suite) == {"one": "skipped", "two": "done"}
    assert table()["notes"] == [f"`{Path('one.py').resolve()}`: skipped: no triton."]
    assert not suite.has_failed, "a reason of the machine is no failure"


def test_a_part_longer_than_the_time_left_is_skipped_and_a_shorter_one_runs() -> None:
    suite = run(part("long", WRITE, LONG + 1), part("short", WRITE))
    assert ends(suite) == {"long": "skipped", "short": "done"}
    assert suite.outcomes[0].reason == "it may take 601 s, and 600 s are left (--minutes)"


def test_a_failing_part_is_named_with_its_error_and_the_next_one_runs() -> None:
    program = "print('begin')\nraise MemoryError('CUDA out of memory. Tried 2 GiB')"
    suite = run(part("one", program), part("two", WRITE))
    assert ends(suite) == {"one": "failed", "two": "done"}
    reason = "status 1: MemoryError: CUDA out of memory. Tried 2 GiB; see"
    assert suite.outcomes[0].reason.startswith(reason)
    assert suite.has_failed


def test_the_results_of_an_earlier_run_do_not_count() -> None:
    run(part("one", WRITE))
    suite = run(part("one", "raise SystemExit('error: no')"))
    assert (ends(suite), suite.lines) == ({"one": "failed"}, [])


@pytest.mark.parametrize("first", ["", STUBBORN], ids=["ends by SIGTERM", "ignores SIGTERM"])
def test_a_part_over_its_limit_is_stopped_with_its_children_and_keeps_its_lines(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.suites.budget.TERMINATION_SECONDS", 0.1)
    wait = subprocess.Popen.wait

    def end_of_the_limit(process: Any, timeout: float | None = None) -> int:
        if timeout is None or timeout < 1 or "two.py" in process.args[1]:
            return wait(process, timeout)
        until(lambda: pid("one.started"))
        raise subprocess.TimeoutExpired(process.args, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", end_of_the_limit)
    suite = run(part("one", first + WRITE + CHILD + HANG), part("two", WRITE), seconds=LONG)
    assert ends(suite) == {"one": "stopped", "two": "done"}
    assert suite.outcomes[0].reason == "after 540 s, its limit"
    assert [line.what for line in suite.lines] == ["one: speed", "two: speed"]
    assert suite.has_failed
    until(lambda: gone(pid("child")) and gone(pid("one.started")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interruption_stops_the_part_and_writes_the_table(number: signal.Signals) -> None:
    names = [part("one", WRITE).arguments, part("two", WRITE + HANG).arguments]
    script = f"""
import argparse, sys, time
from benchmarks.suites import parts, run
from benchmarks.suites.budget import Part
paths = ({names[0]!r}, {names[1]!r}, "x.py")
parts.GPU = [Part(n, path, 60) for n, path in zip(("one", "two", "three"), paths, strict=True)]
options = argparse.Namespace(machine="gpu", device=None, tiny=True, collect=False, minutes=10)
run.torch.cuda.is_available = lambda: True
run._hardware = lambda: "a machine"
sys.exit(run.run(options, time.monotonic()))
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", script]
    suite = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    until(lambda: pid("two.started"))
    suite.send_signal(number)
    output, _ = suite.communicate()
    assert suite.returncode == 128 + number
    assert "| one: speed | 2 |" in output and "| two: speed | 2 |" in output
    content = json.loads(Path("results/benchmarks/tiny/suite-gpu.json").read_text())
    assert [line["what"] for line in content["lines"]] == ["one: speed", "two: speed"]
    assert [note.split(": ", 1)[1] for note in content["notes"]] == ["stopped: by a signal."] * 2
    until(lambda: gone(pid("two.started")))


def test_the_options_of_a_part_are_left_out_if_it_is_tiny() -> None:
    step_time = Part("step_time", "step_time.py --batch 16", 60)
    assert benchmark(step_time, "gpu/step_time", [])[2:] == [
        "--batch",
        "16",
        "--name",
        "gpu/step_time",
    ]
    tiny = benchmark(step_time, "tiny/step_time", ["--device", "cpu", "--tiny"])
    assert tiny[2:] == ["--name", "tiny/step_time", "--device", "cpu", "--tiny"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("one\ntorch.OutOfMemoryError: CUDA out of memory.\nsee the docs\n",
         "torch.OutOfMemoryError: CUDA out of memory."),
        ("error: no C compiler\n", "error: no C compiler"),
        ("one\ntwo\n", "two"),
        ("", "no output"),
    ],
)  # fmt: skip
def test_the_reason_of_a_failure_is_the_line_of_its_error(
    output: str, expected: str, tmp_path: Path
) -> None:
    log = tmp_path / "one.log"
    log.write_text(output, encoding="utf-8")
    assert last_line(log) == expected
