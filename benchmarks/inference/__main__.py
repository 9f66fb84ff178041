"""Error rates and coverage of tests and intervals of gains, in simulated studies of known gains.

python -m benchmarks.inference                     1,000 studies a line, a few minutes
python -m benchmarks.inference --studies 4000

The first table applies all rules to studies of ten methods over one baseline. The second is on
equivalence, the third on intervals over seeds and images together. The random state is fixed. The
tables are written to results/benchmarks.
"""

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported

from benchmarks.inference.images import TITLES, coverage_lines
from benchmarks.inference.studies import EFFECT, ERRORS, equivalence_lines, rate_lines
from kd.common.files import write_text
from kd.common.results import RESULTS


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of each line")
    studies = parser.parse_args().studies
    tables = {
        "Rules for the gains of a table": (rate_lines(studies), _about_rates()),
        "Equivalence with no gain, in % of studies or rows": (equivalence_lines(studies), []),
        f"Coverage of intervals in %: {', '.join(TITLES)}": (coverage_lines(studies), []),
    }
    blocks = []
    for title, (lines, notes) in tables.items():
        block = [f"### {title}", ""]
        print(*block, sep="\n")
        for line in lines:
            print(line, flush=True)
            block.append(line)
        blocks += [*block, "", *notes]
    write_text(RESULTS / "benchmarks" / "inference.md", "\n".join(blocks) + "\n")


def _about_rates() -> list[str]:
    """Return the notes on the first table."""
    kinds = "; ".join(f"{kind}: {text}" for kind, text in ERRORS.items())
    return [
        f"All in %. Errors: {kinds}. "
        f"Power is for a gain of {EFFECT:g} residual standard deviations.",
        "",
    ]


if __name__ == "__main__":
    main()
