"""Command that describes the methods: ``methods``."""

from argparse import Namespace

from kd.config.library import Library


def print_methods(options: Namespace) -> None:
    """Print the table of methods and detectors, or one method in detail."""
    from kd.config.applicability import describe, explain

    print(explain(options.name, Library()) if options.name else describe(Library()))
