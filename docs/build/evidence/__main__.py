"""Make ``docs/evidence.md`` from the data beside it: ``python -m docs.build.evidence``.

With ``--collect`` the data are first taken from the runs that are finished here.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from docs.build.evidence import page, records
from docs.build.measurements import insert
from kd.common.errors import UserError
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import plan

PAGE = Path("docs/evidence.md")


class Part(NamedTuple):
    """How a study of the page is run: at which scale, and with how many seeds if not its own."""

    scale: str
    seeds: int | None = None


STUDIES = {"ours": Part("mini"), "bccd": Part("laptop", seeds=6)}


def main() -> None:
    """Fill every block of the page whose study has data."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m docs.build.evidence")
    parser.add_argument("--collect", action="store_true", help="first take the data from results/")
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="only these")
    options = parser.parse_args()
    library = Library()
    for study in options.studies or STUDIES:
        scale, seeds = STUDIES[study]
        planned = plan(study, scale, library, seeds)
        if options.collect:
            for line in records.collect(planned, study, scale):
                print(line, file=sys.stderr)
        if not (records.FOLDER / f"{study}.csv").exists():
            print(f"{records.FOLDER}: nothing of {study}; its blocks stay", file=sys.stderr)
            continue
        text = PAGE.read_text(encoding="utf-8")
        for name, make in page.blocks(page.load(study, planned)).items():
            if f"<!-- {name}: begin -->" in text:
                text = insert(text, name, make(), PAGE)
        write_text(PAGE, text)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
