"""Page of rehearsals: ``python -m docs.build.rehearsals``.

The page is written from ``docs/evidence/rehearsals.csv``. With ``--collect``, the rehearsals in
``results/`` are first added to it.
"""

import argparse

from docs.build.rehearsals.page import PAGE, collect, page, read_rows, write_rows
from kd.common.files import write_text
from kd.config.library import Library


def main() -> None:
    """Write the page, with new rehearsals if they are collected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collect", action="store_true", help="add the rehearsals in results/")
    library, rows = Library(), read_rows()
    if parser.parse_args().collect:
        rows = collect(library, rows)
        write_rows(rows)
    write_text(PAGE, page(library, rows))
    print(f"{PAGE}: {len(rows)} rehearsals")


if __name__ == "__main__":
    main()
