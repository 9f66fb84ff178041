"""Run the tests that need a GPU, and count them.

python benchmarks/devices/device_tests.py        about a minute on a GPU, as `pytest -m gpu`

The tests are those of TESTS. Without a GPU the same tests run on the CPU, as far as it
can do what they check.
"""

import os
import sys
import time
from typing import Any

import pytest
import torch

from benchmarks import report
from benchmarks.report import Line
from benchmarks.suites.budget import ROOT
from kd.common.timing import Quartiles

TESTS = ("tests/training/devices", "tests/methods/ops/test_shortcuts_waiting.py")
OUTCOMES = ("passed", "failed", "skipped")


class Counter:
    """Plugin of pytest that counts outcomes and has the reasons of failures and skips."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self.reasons: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a test once: by its call or, if that does not run, its preparation."""
        if report.when != "call" and report.outcome == "passed":
            return
        self.counts[report.outcome] += 1
        name = report.nodeid.rpartition("::")[2]
        if report.outcome == "skipped":
            self.reasons.append(f"{name} skipped: {report.longrepr[2].removeprefix('Skipped: ')}.")
        elif report.outcome == "failed":
            message = getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
            first = (message.splitlines() or ["see its output"])[0]
            self.reasons.append(f"{name} failed: {first}.")


def main() -> None:
    """Run the tests and print their table."""
    options = report.parse(report.arguments(__doc__))
    on_gpu = torch.cuda.is_available()
    selection = ["-m", "gpu" if on_gpu else "not gpu", *(["-k", "energy"] if options.tiny else [])]
    paths = [ROOT / path for path in (TESTS[:1] if options.tiny else TESTS)]
    counter, started = Counter(), time.monotonic()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # an image may have any
    plugins = ["-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    project = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    arguments = [*plugins, *project, *map(str, paths), *selection]
    status = pytest.main(arguments, plugins=[counter])
    total = counter.counts["passed"] + counter.counts["failed"]
    share = counter.counts["passed"] / max(total, 1)
    details = {**counter.counts, "s": time.monotonic() - started}
    line = Line(
        "tests that pass, share", Quartiles(share, share, share, 1), least=1, details=details
    )
    about = f"Tests of what differs by device, on {report.device_name()}."
    name = options.name or "device_tests"
    print(report.publish(name, about, [line], options.before, counter.reasons))
    sys.exit(int(status))


if __name__ == "__main__":
    main()
