"""Compared pairs of configurations, and the reasons of their differences."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from kd.common.schema import Part, read_yaml
from kd.config.compose import compose
from kd.config.library import Library
from kd.config.run import Run
from kd.models.fidelity.compare import Difference, MmdetComparison, compare

FOLDER = Path(__file__).parent
PAIRS, REASONS = "docs/build/fidelity/pairs.yaml", "docs/build/fidelity/reasons.yaml"


class ComposedPair(Part):
    """Parts that compose a configuration beside one of mmdet's."""

    detector: str
    backbone: str
    schedule: str
    dataset: str = "coco2017"


class Reason(Part):
    """Reason of the differences whose path matches ``path``."""

    path: str
    """Dotted path, with ``*`` for any characters."""
    only: tuple[str, ...] = ("*",)
    """Configurations of mmdet that the reason is for, with ``*`` for any characters."""
    reason: str
    """The reason, one sentence or two."""

    def matches(self, name: str, path: str) -> bool:
        return fnmatchcase(path, self.path) and any(fnmatchcase(name, one) for one in self.only)

    @property
    def is_common(self) -> bool:
        """True for a difference of all configurations that have the setting."""
        return self.only == ("*",)


class Explained(NamedTuple):
    """A difference from one of mmdet's configurations; ``reason`` is None if it has none."""

    name: str
    difference: Difference
    reason: Reason | None


class FidelityTables:
    """All pairs with their differences and reasons."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.pairs = {
            name: ComposedPair.parse(values, f"{PAIRS}: {name}")
            for name, values in read_yaml(FOLDER / "pairs.yaml").items()
        }
        self.reasons = [
            Reason.parse(values, f"{REASONS}: entry {number}")
            for number, values in enumerate(read_yaml(FOLDER / "reasons.yaml"), 1)
        ]

    def composed(self, name: str) -> dict[str, Any]:
        """Return our configuration beside one of mmdet's."""
        pair, scale = self.pairs[name], self.library.scale("paper", PAIRS)
        run = Run("paper", pair.dataset, pair.schedule, pair.detector, pair.backbone, seed=0)
        return compose(run, {}, scale, self.library, PAIRS)

    @cached_property
    def comparisons(self) -> dict[str, MmdetComparison]:
        """Comparisons by the name of mmdet's configuration."""
        return {name: compare(self.composed(name), name) for name in self.pairs}

    def explained(self) -> Iterator[Explained]:
        """Yield all differences, each with the first reason that matches it."""
        for name, comparison in self.comparisons.items():
            for difference in comparison.differences:
                matching = (one for one in self.reasons if one.matches(name, difference.path))
                yield Explained(name, difference, next(matching, None))

    def problems(self) -> list[str]:
        """Return a line for each difference without a reason and each reason without one."""
        used, lines = set(), []
        for name, difference, reason in self.explained():
            if reason is None:
                lines.append(
                    f"{name}: '{difference.path}' is {difference.ours!r} here and "
                    f"{difference.mmdets!r} in mmdet; correct it, or add its reason to {REASONS}"
                )
            used.add(id(reason))
        unused = (one for one in self.reasons if id(one) not in used)
        return lines + [
            f"{REASONS}: '{one.path}' for {', '.join(one.only)} explains nothing; delete it"
            for one in unused
        ]
