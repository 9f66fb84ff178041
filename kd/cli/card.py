"""Command that writes a model card: ``card``."""

import re
import sys
from argparse import Namespace
from pathlib import Path


def write_model_card(options: Namespace) -> None:
    """Write the model card of a run, and print its path."""
    from analysis.card.card import write_card
    from analysis.card.metadata import CardOptions
    from kd.config.library import Library
    from kd.monitoring.run_names import find_run

    run = find_run(*options.run)
    choices = CardOptions(options.license, tuple(options.datasets or ()))
    print(write_card(run, options.to or run, choices, Library()))


def card_in(folder: Path) -> str:
    """Return the card in a folder, empty without one; UserError for a README of other text."""
    from analysis.card.card import FILE
    from analysis.card.filled import earlier_card

    return earlier_card(folder / FILE)


def describe_export(run: Path, folder: Path, earlier: str) -> None:
    """Replace the README of an export by the model card of its run, which contains the README.

    ``earlier``: the card of an earlier export, whose author's parts are preserved. If the run has
    no metrics, a line reports that the card is left out.
    """
    from analysis.card.card import FILE, renewed_card
    from analysis.card.metadata import CardOptions
    from kd.common.errors import UserError
    from kd.common.files import write_text
    from kd.config.library import Library

    without_title = re.sub(r"\A# .*\n", "", (folder / FILE).read_text(encoding="utf-8")).strip()
    use = re.sub(r"(?m)^## ", "### ", without_title)
    try:
        text = renewed_card(run, earlier, CardOptions(use=use), Library())
    except UserError as error:
        print(f"{folder / FILE}: without a model card: {error}", file=sys.stderr)
    else:
        write_text(folder / FILE, text)
