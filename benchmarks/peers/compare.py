"""Time a distilled step here, in torchdistill and in mmrazor, and a bare one here and in mmdet.

python benchmarks/peers/compare.py --prepare      make the peers' environments, then compare
python benchmarks/peers/compare.py                about five minutes on two idle cores

Every system is a process that takes one step on request, all of them in turn in each round, on the
same images. A step is compared with its least parts: the same framework's bare student step, and
its teacher's forward up to the neck. README.md lists equal and different conditions.
"""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.peers.environments import PEERS, prepare, python, requirements
from benchmarks.peers.process import System
from benchmarks.peers.scenes import draw
from benchmarks.report import Line, arguments, publish
from kd.common.errors import UserError
from kd.common.progress import progress
from kd.common.timing import quartiles, ratio

ENVIRONMENTS = Path(tempfile.gettempdir()) / "kd-peers"
PARTS = {"torchvision": ("student", "teacher"), "mmdet": ("student", "teacher")}
"""Parts of the systems that are measured by part; others are measured by step."""
ENVIRONMENT = {"torchdistill": "torchdistill", "torchdistill-cut": "torchdistill"} | {
    "mmrazor": "mmrazor"
}
"""Peer whose environment a system runs in; others run in this one."""
DIFFERENT = 1e-3
"""Largest relative difference of the numbers of weights in two systems: torchvision's background
has boxes."""


class Row(NamedTuple):
    """System with its description, the parts that it is compared with, and its target."""

    system: str
    what: str
    parts: tuple[str, ...]
    most: float | None = None


ROWS = (
    Row(
        "torchdistill",
        "torchdistill, MSE of necks, teacher as in its R50 to R18 sample",
        ("torchvision student", "torchvision teacher"),
    ),
    Row(
        "torchdistill-cut",
        "torchdistill, MSE of necks, teacher cut as in its GHND sample",
        ("torchvision student", "torchvision teacher"),
    ),
    Row(
        "kd-fitnets",
        "this pipeline, MSE of necks (fitnets)",
        ("mmdet student", "mmdet teacher"),
        most=1.05,
    ),
    Row("mmrazor", "mmrazor, FBKD", ("mmdet student", "mmdet teacher")),
    Row(
        "kd-fkd",
        "this pipeline, the same method (fkd_mmrazor)",
        ("mmdet student", "mmdet teacher"),
        most=1.1,
    ),
    Row("mmdet-runner", "mmdet's training loop, student alone", ("mmdet student",)),
    Row("kd-alone", "this pipeline, student alone", ("mmdet student",), most=1.03),
)
AGAINST = (
    ("kd-fitnets", "torchdistill", "MSE of necks: a step here / in torchdistill"),
    ("kd-fitnets", "torchdistill-cut", "MSE of necks: a step here / in torchdistill, teacher cut"),
    ("kd-fkd", "mmrazor", "FKD: a step here / in mmrazor"),
    ("kd-alone", "mmdet-runner", "student alone: a step here / in mmdet's loop"),
)
Times = Mapping[str, list[float]]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = arguments(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument(
        "--prepare", action="store_true", help="create the environments, then measure"
    )
    parser.add_argument(
        "--environments", type=Path, default=ENVIRONMENTS, help="folder of the environments"
    )
    parser.add_argument("--without", nargs="+", default=[], choices=PEERS, help="peers to omit")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument(
        "--side", type=int, default=320, help="side of the square images, in pixels"
    )
    options = parser.parse_args()
    try:
        if options.prepare:
            for peer in PEERS:
                prepare(options.environments, peer)
        pythons = _pythons(options.environments, options.without)
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder) / "images", options.side)
            times, facts = _measure(pythons, Path(folder), options.batch, options.rounds)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    rows = [row for row in ROWS if row.system in pythons]
    lines = [_line(row, times, facts, options.batch) for row in rows]
    lines += [
        Line(what, ratio(times[ours], times[theirs]))
        for ours, theirs, what in AGAINST
        if ours in times and theirs in times
    ]
    about = _about(options.side, options.batch, options.rounds, options.without)
    print(publish(options.name or "peers", about, lines, options.before))


def _pythons(folder: Path, without: list[str]) -> dict[str, Path]:
    """Return each system's interpreter; UserError if an environment is missing."""
    systems = dict.fromkeys([*PARTS, *(row.system for row in ROWS)])
    environments = {name: ENVIRONMENT.get(name) for name in systems}
    return {
        name: python(folder, peer) for name, peer in environments.items() if peer not in without
    }


def _measure(
    pythons: dict[str, Path], folder: Path, batch: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Return the seconds of each case by round, and the report of each system."""
    with ExitStack() as stack:
        systems = {
            name: stack.enter_context(
                System(name, interpreter, folder / "images", folder / name, batch)
            )
            for name, interpreter in pythons.items()
        }
        for system in systems.values():
            system.wait()
        _check(systems)
        times = _in_turn(systems, rounds)
        return times, {name: system.facts for name, system in systems.items()}


def _in_turn(systems: dict[str, System], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every part of every system by round, after one round to warm up."""
    times: dict[str, list[float]] = {}
    for number in progress(range(rounds + 1), rounds + 1, "rounds"):
        for name, system in systems.items():
            for part in PARTS.get(name, ("step",)):
                seconds = system.request(part)
                if number:
                    case = name if part == "step" else f"{name} {part}"
                    times.setdefault(case, []).append(seconds)
    return times


def _check(systems: dict[str, System]) -> None:
    """Raise a UserError if students or teachers of the systems differ in size."""
    for role in ("student", "teacher"):
        counts = {name: system.facts[role] for name, system in systems.items()}
        sizes = {name: count for name, count in counts.items() if count}
        if max(sizes.values()) > min(sizes.values()) * (1 + DIFFERENT):
            raise UserError(f"systems have different networks; weights of each {role}: {sizes}")


def _line(row: Row, times: Times, facts: dict[str, dict[str, float]], batch: int) -> Line:
    least = [sum(parts) for parts in zip(*(times[part] for part in row.parts), strict=True)]
    step = quartiles(times[row.system]).median
    details = {
        "ms a step": 1000 * step,
        "ms of its parts": 1000 * quartiles(least).median,
        "images/s": batch / step,
        "peak memory, MB": facts[row.system]["peak_mb"],
    }
    if len(row.parts) > 1:
        framework = row.parts[0].split()[0]
        details["peak memory of its parts, MB"] = facts[framework]["peak_mb"]
    return Line(row.what, ratio(times[row.system], least), most=row.most, details=details)


def _about(side: int, batch: int, rounds: int, without: list[str]) -> str:
    pinned = [requirements(peer)[0].replace("==", " ") for peer in PEERS if peer not in without]
    shared = [f"{name} {version(name)}" for name in ("torch", "torchvision", "mmdet", "mmengine")]
    clock = "seconds of the GPU" if torch.cuda.is_available() else "processor time"
    return (
        f"Faster R-CNN R18, taught by R50, random weights, {side} x {side} pixels, batches of "
        f"{batch}, one thread each; step over its parts in the same framework (the bare student's "
        f"step and, for distilled students, the bare teacher's forward pass up to the neck), "
        f"{rounds} rounds, {clock}. {', '.join([*pinned, *shared])}."
    )


if __name__ == "__main__":
    main()
