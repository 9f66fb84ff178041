"""Run the benchmarks that fit a machine and an amount of time, and print one table of them.

python benchmarks/suite.py cpu                     about half an hour on two idle cores
python benchmarks/suite.py gpu                     at most nine minutes on one GPU
python benchmarks/suite.py gpu --device cpu --tiny     the same code, in a minute without a GPU

A machine that has torch with CUDA and nothing else runs the second by this one command:

    python benchmarks/suite.py gpu --wheels > wheels.txt &&
    python -m pip install --no-deps -r wheels.txt && python benchmarks/suite.py gpu

``--wheels`` prints the packages that such a machine lacks. ``--check`` prints in seconds what is
absent and what will be skipped.

Each benchmark is a separate command. It has a budget of time and inherits what earlier ones did not
use. Each writes its table and JSON to results/benchmarks, those of a GPU to results/benchmarks/gpu.
After each, the suite writes its own table, ``suite-cpu`` or ``suite-gpu``: the values that have a
target and, of a GPU, all main values. Benchmarks that failed or were skipped are named below it,
with the reason. SIGTERM and Ctrl-C stop the suite; the table has what was measured until then.
"""

import argparse
import sys
import time
from pathlib import Path

STARTED = time.monotonic()
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
MINUTES = {"cpu": 45.0, "gpu": 9.0}
"""Limits by default. That of a GPU leaves a minute of ten for installing packages."""


def main() -> None:
    """Run the suite, or check the machine."""
    options = _options()
    from benchmarks.suites import packages

    if options.wheels:
        print("\n".join(packages.wheels()))
        return
    if options.machine == "gpu":
        lines, requirements = packages.problems()
        if requirements:
            lines.append(f"install: python -m pip install --no-deps {_quoted(requirements)}")
        if lines:
            raise SystemExit("\n".join(f"error: {line}" for line in lines))
    from benchmarks.suites import run

    if options.check:
        print("\n".join(run.check(options.machine)))
    else:
        raise SystemExit(run.run(options, STARTED))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machine", choices=tuple(MINUTES))
    parser.add_argument(
        "--minutes",
        type=float,
        help="limit of all benchmarks together, in minutes (default: 45 of cpu, 9 of gpu)",
    )
    parser.add_argument(
        "--collect",
        action="store_true",
        help="print the table of earlier results without a new run",
    )
    parser.add_argument(
        "--wheels",
        action="store_true",
        help="print the packages that a machine with torch and CUDA lacks, for pip",
    )
    parser.add_argument(
        "--check", action="store_true", help="print what is absent and what will be skipped"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="device of suite gpu")
    parser.add_argument(
        "--tiny", action="store_true", help="run suite gpu in a minute, to test the code"
    )
    options = parser.parse_args()
    if options.machine == "cpu" and (options.tiny or options.device):
        parser.error("--device and --tiny are options of suite gpu")
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu needs --tiny; `python benchmarks/suite.py cpu` measures a CPU")
    options.minutes = options.minutes or MINUTES[options.machine]
    return options


def _quoted(requirements: list[str]) -> str:
    return " ".join(f'"{line}"' if " " in line else line for line in requirements)


if __name__ == "__main__":
    main()
