"""Runs on disk by directory or by part of their name."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from kd.common.errors import UserError
from kd.common.results import RESULTS

MOST_SUGGESTIONS = 5
RUN_HINT = "give a run's directory or part of its name; `kd status` lists them"


def find_run(*words: str) -> Path:
    """Return the run that is the given directory, or the only one whose name has all words.

    UserError if no run or several runs match.
    """
    directory = Path(words[0])
    if len(words) == 1 and (directory / "config.json").exists():
        return directory
    from kd.monitoring.runs import runs_on_disk  # the executor that it imports takes 0.1 s

    query = " ".join(words)
    names = {str(run): run for run in runs_on_disk()}
    matches = [name for name in names if all(word in name for word in words)]
    if len(words) == 1 and not matches and directory.exists():
        raise UserError(f"{directory}/config.json: no such file; {RUN_HINT}")
    if not names:
        raise UserError(
            f"'{query}': there are no runs under results yet; start them with `snakemake`, or "
            "write their configurations with `kd compose STUDY --write`"
        )
    if len(matches) == 1:
        return names[matches[0]]
    if matches:
        raise UserError(
            f"'{query}' matches {len(matches)} runs: {_enumerate(matches)}; "
            "give more of its name, or the digits at its end"
        )
    raise UserError(f"no run under results matches '{query}'; {_suggestion(query, [*names])}")


def _suggestion(query: str, names: Sequence[str]) -> str:
    """Return the runs with a part like the query, or the command that lists all."""
    folders = {folder for name in names for folder in Path(name).relative_to(RESULTS).parts[1:]}
    parts = {part for folder in folders for part in folder.split("_from_")}
    close = get_close_matches(query, parts, MOST_SUGGESTIONS)
    similar = dict.fromkeys(name for part in close for name in names if part in name)
    if similar:
        return f"did you mean {_enumerate([*similar])}?"
    return RUN_HINT


def _enumerate(names: Sequence[str]) -> str:
    short_names = [name.removeprefix(f"{RESULTS}/") for name in names[:MOST_SUGGESTIONS]]
    rest = len(names) - MOST_SUGGESTIONS
    return ", ".join(short_names) + (f", and {rest} more" if rest > 0 else "")
