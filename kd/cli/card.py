"""Command that writes a model card: ``card``."""

from argparse import Namespace


def write_model_card(options: Namespace) -> None:
    """Write the model card of a run, and print its path."""
    from analysis.card.card import write_card
    from analysis.card.metadata import CardOptions
    from kd.config.library import Library
    from kd.monitoring.run_names import find_run

    run = find_run(*options.run)
    choices = CardOptions(options.license, tuple(options.datasets or ()))
    print(write_card(run, options.to or run, choices, Library()))
