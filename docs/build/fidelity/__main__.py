"""Write ``docs/reference/fidelity.md``: ``python -m docs.build.fidelity``."""

from docs.build.fidelity.page import PAGE, page
from docs.build.fidelity.tables import FidelityTables
from kd.common.files import write_text
from kd.config.library import Library


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(FidelityTables(Library())))


if __name__ == "__main__":
    main()
