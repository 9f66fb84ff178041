"""Options that several commands share, and the types of their values."""

import argparse
from collections.abc import Sequence
from typing import Any

from kd.cli.project import project_path, run_word
from kd.common.lists import split_list


class ListAction(argparse.Action):
    """Option with one or more words or comma-separated names; repeated options are joined."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        names = [*(getattr(namespace, self.dest) or []), *split_list(values)]
        if not names:
            raise argparse.ArgumentError(self, "expected at least one name")
        setattr(namespace, self.dest, list(dict.fromkeys(names)))


class ChangesAction(ListAction):
    """Option with ``KEY=VALUE`` changes, which are joined with commas; a value may have commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        earlier = getattr(namespace, self.dest)
        setattr(namespace, self.dest, ",".join([*([earlier] if earlier else []), *values]))


def add_list(parser: argparse.ArgumentParser, flag: str, metavar: str, text: str) -> None:
    """Add an option whose value is a list of names, separated by commas or spaces."""
    parser.add_argument(flag, nargs="+", action=ListAction, metavar=metavar, help=text)


def last_word_first(arguments: Sequence[str], flags: Sequence[str]) -> list[str] | None:
    """Return the arguments with the last word of a list moved to the front, None without one.

    ``--tables table1 rm_pfi`` becomes ``rm_pfi --tables table1``: argparse reads all words after
    the option as its list, although the last one is the required argument.
    """
    words = list(arguments)
    for flag in (word for word in reversed(words) if word in flags):
        start = words.index(flag) + 1
        end = next((i for i in range(start, len(words)) if words[i].startswith("-")), len(words))
        if end - start > 1 and "=" not in words[end - 1]:
            return [words[end - 1], *words[: end - 1], *words[end:]]
    return None


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the argument STUDY, the scale, and the options that select its runs."""
    parser.add_argument("study", metavar="STUDY", help="name of a file in configs/studies")
    add_scale(parser)
    add_selection(parser)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that select rows of a study, and those that change its runs."""
    text = "number of seeds (default: the study's)"
    parser.add_argument("--seeds", type=positive, metavar="N", help=text)
    parser.add_argument(
        "--teacher-seeds",
        choices=("first", "paired"),
        help="first: all students learn from the teacher of seed 0; paired: each learns from the "
        "teacher of its seed (default: the study's)",
    )
    parser.add_argument(
        "--teachers",
        choices=("trained", "zoo", "zoo_any_lr"),
        default="trained",
        help="zoo: import teachers from mmdet's model zoo where it has an equal one; zoo_any_lr: "
        "also those with another learning rate (default: train them)",
    )
    add_list(parser, "--tables", "TABLE", "select these tables of the study (default: all)")
    add_list(parser, "--detectors", "NAME", "select the rows of these detectors (default: all)")
    add_list(
        parser,
        "--methods",
        "NAME",
        "select the rows of these methods, as the study names them (default: all)",
    )
    add_list(
        parser,
        "--rows",
        "KEY",
        "select rows by parts of their keys, which `kd plan STUDY` prints (default: all)",
    )
    parser.add_argument(
        "--schedule",
        nargs="+",
        action=ChangesAction,
        metavar="KEY=VALUE",
        help="change the schedules of all detector trainings, such as lr=0.005,epochs=6 "
        "(default: no change)",
    )


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Add ``--scale``."""
    text = "name of a file in configs/scales (default: that of configs/default.yaml)"
    parser.add_argument("--scale", help=text)


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the argument DATASET."""
    parser.add_argument("dataset", metavar="DATASET", help="name of a file in configs/datasets")


def add_listed_images(parser: argparse.ArgumentParser) -> None:
    """Add the option that limits the images of a stand-in."""
    parser.add_argument(
        "--images",
        type=positive,
        metavar="N",
        help="most images of an annotation file or image set of a stand-in (default: the published "
        "number of COCO and VOC, 300 for others)",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the argument RUN, which ``find_run`` reads."""
    text = "the run: its directory, or one or more parts of its name"
    parser.add_argument("run", metavar="RUN", nargs="+", type=run_word, help=text)


def add_folder(parser: argparse.ArgumentParser, text: str, required: bool = False) -> None:
    """Add ``--to``, a folder for results."""
    parser.add_argument("--to", type=project_path, required=required, metavar="DIR", help=text)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers``."""
    text = "number of processes that load data (default: 0, load in the main process)"
    parser.add_argument("--workers", type=count, default=0, metavar="N", help=text)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    text = "number of CPU threads of torch (default: torch's)"
    parser.add_argument("--threads", type=positive, metavar="N", help=text)


def add_watch(parser: argparse.ArgumentParser, seconds: int, action: str, until: str) -> None:
    """Add ``--watch``, with the default ``seconds`` if it has no value."""
    parser.add_argument(
        "--watch",
        type=positive,
        nargs="?",
        const=seconds,
        metavar="SECONDS",
        help=f"{action} every SECONDS seconds, {seconds} without a number, {until} (default: once)",
    )


def count(text: str) -> int:
    """Return a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def fraction(text: str) -> float:
    """Return a number above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0 and below 1")
    return value


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value


def assignment(text: str) -> tuple[str, str]:
    """Return the two sides of ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return key, value


def positive(text: str) -> int:
    """Return a whole number from 1."""
    if not count(text):
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def positive_list(text: str) -> list[int]:
    """Return different whole numbers from 1, separated by commas, in ascending order."""
    return sorted({positive(word) for word in split_list(text)} or {positive("")})


def size(text: str) -> tuple[int, int]:
    """Return width and height, two whole numbers from 1 with a comma between them."""
    words = text.split(",")
    if len(words) != 2:
        raise argparse.ArgumentTypeError(f"'{text}' is not a width and a height, such as 640,480")
    return positive(words[0]), positive(words[1])


def at_least_two(text: str) -> int:
    """Return a whole number from 2."""
    if count(text) < 2:
        raise argparse.ArgumentTypeError("must be 2 or more")
    return int(text)
