"""Error rates and coverage of tests and intervals of gains, in simulated studies of known gains.

python -m benchmarks.inference                     all tables, about half an hour
python -m benchmarks.inference verdicts looks      some of them
python -m benchmarks.inference --studies 100       fewer studies a line

The random state is fixed. Each table is written to results/benchmarks/simulation-NAME.md, from
which docs/explanation/simulation.md is made. "rules" compares all rules that were considered.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported

from benchmarks.inference.images import cell_lines, coverage_lines
from benchmarks.inference.looks import no_gain_lines, power_lines, sequential_lines
from benchmarks.inference.studies import rate_lines, verdict_lines
from kd.common.files import write_text
from kd.common.results import RESULTS


class Table(NamedTuple):
    """A table, and how many times more studies it takes in the same time."""

    lines: Callable[[int], Iterator[str]]
    factor: int


TABLES = {
    "verdicts": Table(verdict_lines, 10),
    "power": Table(power_lines, 10),
    "no-gain": Table(no_gain_lines, 10),
    "looks": Table(sequential_lines, 1),
    "images": Table(coverage_lines, 1),
    "cells": Table(cell_lines, 1),
    "rules": Table(rate_lines, 1),
}


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="tables; default: all")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of each line")
    options = parser.parse_args()
    for name in options.tables or TABLES:
        lines, factor = TABLES[name]
        block = [f"{factor * options.studies:,} studies a line, in %.", ""]
        print(f"# {name}", "", *block, sep="\n")
        for line in lines(factor * options.studies):
            print(line, flush=True)
            block.append(line)
        write_text(RESULTS / "benchmarks" / f"simulation-{name}.md", "\n".join(block) + "\n")


if __name__ == "__main__":
    main()
