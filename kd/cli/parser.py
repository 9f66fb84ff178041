"""Parser of the command line. It imports no torch."""

import argparse
from typing import Any

from kd.cli.command import Command, Parser, TopParser, add_command
from kd.cli.commands import data, look, run, study, use

GROUPS = (study.GROUP, run.GROUP, use.GROUP, data.GROUP, look.GROUP)
DISTRIBUTION = "kd-detection"
"""Name of the installed package, which has the version."""


class _Version(argparse.Action):
    """Option that prints the version and exits."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(nargs=0, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata

        print(f"kd {metadata.version(DISTRIBUTION)}")
        parser.exit()


def build_parser() -> TopParser:
    """Return the parser of all commands; parsed options have the attribute ``command``."""
    parser = TopParser(GROUPS)
    parser.add_argument("--version", action=_Version)
    subparsers = parser.add_subparsers(
        required=True, metavar="COMMAND", dest="command_name", parser_class=Parser
    )
    for command in commands():
        add_command(subparsers, command)
    return parser


def commands() -> list[Command]:
    """Return all commands in the order of the help."""
    return [command for group in GROUPS for command in group.commands]
