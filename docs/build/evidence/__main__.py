"""Pages of evidence in ``docs/explanation``: ``python -m docs.build.evidence``.

The blocks of ``evidence-data.md`` and the table of ``evidence.md`` are written from the data in
``docs/evidence``. With ``--collect``, the data are first updated from the finished runs in
``results/``.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import NamedTuple

from docs.build.evidence import answers, page, records
from docs.build.measurements import insert
from kd.common.errors import UserError
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions

logger = logging.getLogger(__name__)

PAGE = Path("docs/explanation/evidence-data.md")


class StudyRequest(NamedTuple):
    """Scale of a study on the page, and the number of seeds if it differs from the study's."""

    scale: str
    seeds: int | None = None


STUDIES = {"ours": StudyRequest("mini"), "bccd": StudyRequest("laptop", seeds=6)}


def main() -> None:
    """Write every block of the pages whose study has data."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m docs.build.evidence")
    parser.add_argument("--collect", action="store_true", help="first update data from results/")
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="studies; default: all")
    options = parser.parse_args()
    library = Library()
    for study in options.studies or STUDIES:
        scale, seeds = STUDIES[study]
        planned = plan(study, scale, library, StudyOptions(seeds=seeds))
        if options.collect:
            for message in records.collect(planned, study, scale):
                logger.warning("%s", message)
        path = records.FOLDER / f"{study}.csv"
        if not path.exists():
            logger.warning("%s: no such file; the blocks of %s are not changed", path, study)
            continue
        text = PAGE.read_text(encoding="utf-8")
        for name, make in page.blocks(page.load(study, planned)).items():
            if f"<!-- {name}: begin -->" in text:
                text = insert(text, name, make(), PAGE)
        write_text(PAGE, text)
    if answers.available():
        text = answers.PAGE.read_text(encoding="utf-8")
        content = answers.table(library)
        write_text(answers.PAGE, insert(text, answers.BLOCK, content, answers.PAGE))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
