"""Commands of ``kd`` as data, and the parser that prints their help."""

import argparse
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kd.cli import options
from kd.common.errors import UserError, suggest

WIDTH = 88
"""Columns of the help."""
EXIT_STATUSES = {
    0: "success",
    1: "a failed check (`kd check`, `--check`, `--verify`), unreadable images, or a crash",
    2: "mistake in the input; the message names the remedy",
    75: "training stopped on request; the same command resumes it",
    130: "interrupted with Ctrl-C",
    141: "the reader of the output closed it, as `head` does",
}


@dataclass(frozen=True)
class Example:
    """Command line of an example, without ``kd``, and its purpose."""

    command: str
    purpose: str


@dataclass(frozen=True)
class Command:
    """A command of ``kd``: its function, its arguments and its help."""

    name: str
    run: Callable[[argparse.Namespace], int | None]
    summary: str
    """Line of the command in ``kd --help``."""
    text: str
    """Sentences on what the command does."""
    writes: str
    """Files that the command writes, and where; "nothing" without any."""
    examples: tuple[Example, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    aliases: tuple[str, ...] = ()
    """Other names, which the help does not list."""
    needs_project: bool = True
    """False if the command also works outside a project."""


@dataclass(frozen=True)
class Group:
    """Commands under one title of the help."""

    title: str
    purpose: str
    commands: tuple[Command, ...]


class Parser(argparse.ArgumentParser):
    """Parser that raises UserError, suggests commands, and lets lists precede an argument."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", _formatter)
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments; a required argument may follow the words of a list."""
        try:
            return super().parse_known_args(args, namespace)
        except UserError:
            lists = [action for action in self._actions if isinstance(action, options.ListAction)]
            flags = [flag for action in lists for flag in action.option_strings]
            reordered = options.last_word_first(args, flags) if flags else None
            if reordered is None:
                raise
        return super().parse_known_args(reordered, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise UserError with the command that prints the help."""
        raise UserError(f"{message}; see `{self.prog} --help`")

    def refuse(self, word: str) -> NoReturn:
        """Raise UserError for a word that the command does not know, with the nearest option."""
        if not word.startswith("-"):
            self.error(f"unexpected argument '{word}'")
        flags = [flag for action in self._actions for flag in action.option_strings]
        option = word.partition("=")[0]
        self.error(f"no option '{option}'; {suggest(option, [*flags[2:], '--help'])}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raise UserError with the nearest command instead of a list of all with aliases."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            parsers = action.choices.items()
            names = [name for name, parser in parsers if parser.prog.endswith(f" {name}")]
            self.error(f"no command '{value}'; {suggest(value, names)}")
        super()._check_value(action, value)


class TopParser(Parser):
    """Parser of ``kd`` itself, whose help lists the commands by group."""

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__(prog="kd")
        self.groups = groups

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse arguments; UserError for a word that the command does not know."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.command_parsers[parsed.command.name].refuse(unknown[0])
        return parsed

    @property
    def command_parsers(self) -> dict[str, Parser]:
        """The parsers of the commands by name, also by the other names of a command."""
        return next(
            dict(action.choices)
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
        )

    def format_help(self) -> str:
        """Return the groups with a line for each command, examples and exit statuses."""
        width = max(len(command.name) for group in self.groups for command in group.commands)
        lines = [
            "usage: kd COMMAND [ARGUMENT ...]",
            "",
            "Train, evaluate and compare knowledge distillation for object detection.",
        ]
        for group in self.groups:
            lines += ["", f"{group.title}: {group.purpose}"]
            lines += [f"  {one.name:{width}}  {one.summary}" for one in group.commands]
        lines += ["", "Options:"]
        lines += ["  -h, --help  print this help; `kd COMMAND --help` explains one command"]
        lines += ["  --version   print the version"]
        lines += ["", "Examples:", *_examples(TOP_EXAMPLES), "", "Exit status:"]
        lines += [f"  {status:<4} {meaning}" for status, meaning in EXIT_STATUSES.items()]
        lines += ["", "Documentation: docs/index.md; all commands: docs/reference/cli.md"]
        return "\n".join(lines) + "\n"


TOP_EXAMPLES = (
    Example("plan demo", "list the rows of the study demo"),
    Example("plan rm_pfi --scale paper --budget --gpus 8", "GPU hours of a paper's tables"),
    Example("status", "state of every run of the workflow"),
)


def add_command(commands: Any, command: Command) -> None:
    """Add a command to the subparsers of ``kd``."""
    writes = f"Writes {command.writes}."
    parser = commands.add_parser(
        command.name,
        aliases=command.aliases,
        description="\n\n".join(textwrap.fill(text, WIDTH) for text in (command.text, writes)),
        epilog="\n".join(["examples:", *_examples(command.examples)]),
    )
    parser._positionals.title = "arguments"
    command.add_arguments(parser)
    parser.set_defaults(command=command)


def _examples(examples: Sequence[Example]) -> list[str]:
    """Return each example with its purpose behind it, or above it if both do not fit a line."""
    lines = [f"  kd {example.command}" for example in examples]
    column = max(map(len, lines)) + 2
    if all(column + 2 + len(one.purpose) <= WIDTH for one in examples):
        pairs = zip(lines, examples, strict=True)
        return [f"{line:{column}}# {one.purpose}" for line, one in pairs]
    pairs = zip(lines, examples, strict=True)
    return [text for line, one in pairs for text in (f"  # {one.purpose}", line)]


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=WIDTH)
