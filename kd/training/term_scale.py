"""Comparison of the gradients of distillation terms with that of detection, and a warning."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kd.methods.base import DETECTION_TERM, Method

LEAST_RATIO, LARGEST_RATIO = 0.01, 10.0
"""Bounds of the ratio outside of which a run warns (docs/reference/methods.md states the rule)."""
PROBE_STEPS = (50, 100, 200)
"""Steps with a probe, besides the first ones, when weights are close to their initial values."""
FIRST_PROBES = 3
"""Steps whose probes do not count if there are later ones."""

Norms = Mapping[str, list[float]]
"""L2 norms of gradients at each neck level, by term and for ``DETECTION_TERM``."""


class Verdict(NamedTuple):
    """Term whose gradient is outside of the bounds."""

    term: str
    ratio: float
    """Median over probes of the term's gradient norm divided by that of detection."""
    probes: int
    step: int


def ratios(norms: Norms) -> dict[str, float]:
    """Return each term's gradient norm over all levels, divided by that of detection.

    Terms without a gradient are left out: terms of the backbone alone, terms that start later, and
    terms of a batch without objects.
    """
    lengths = {name: sum(level**2 for level in levels) ** 0.5 for name, levels in norms.items()}
    detection = lengths.pop(DETECTION_TERM)
    return {name: length / detection for name, length in lengths.items() if length and detection}


class TermScale:
    """Probes of a run's terms, each of which is compared with the bounds once."""

    def __init__(self) -> None:
        self.probes: dict[str, list[tuple[int, float]]] = {}
        self.judged: set[str] = set()

    def restore(self, records: Iterable[Mapping[str, Any]], epoch_steps: int) -> None:
        """Read the probes of a resumed run from the records of its log."""
        for record in records:
            if "gradient_norm" in record:
                ended = record["step"] % epoch_steps == 0
                self.add(record["step"], record["gradient_norm"], ended)

    def add(self, step: int, norms: Norms, epoch_ended: bool) -> list[Verdict]:
        """Add a probe; return the terms that are outside of the bounds and due for a warning.

        A term is due at the last of ``PROBE_STEPS`` or at the end of an epoch, whichever is first.
        """
        for term, ratio in ratios(norms).items():
            self.probes.setdefault(term, []).append((step, ratio))
        if step < PROBE_STEPS[-1] and not epoch_ended:
            return []
        verdicts = [self._verdict(term, step) for term in self.probes if term not in self.judged]
        self.judged |= self.probes.keys()
        return [item for item in verdicts if not LEAST_RATIO <= item.ratio <= LARGEST_RATIO]

    def start(self) -> str:
        """Return the medians of the first probes of each term, in a line; empty without terms."""
        medians = {
            term: statistics.median(ratio for step, ratio in probes if step <= FIRST_PROBES)
            for term, probes in self.probes.items()
            if probes[0][0] <= FIRST_PROBES
        }
        terms = ", ".join(f"{term} {ratio:.2g}" for term, ratio in medians.items())
        return terms and f"gradient at the neck at the start, over that of detection: {terms}"

    def _verdict(self, term: str, step: int) -> Verdict:
        probes = self.probes[term]
        later = [ratio for at, ratio in probes if at > FIRST_PROBES]
        later = later or [ratio for _, ratio in probes]
        return Verdict(term, statistics.median(later), len(later), step)


def warning(verdict: Verdict, methods: Mapping[str, Method]) -> str:
    """Return a line with the problem of a term and the setting that changes it.

    ``methods``: the methods of the run, by name.
    """
    weak = verdict.ratio < LEAST_RATIO
    weights = {name: method.weights.get(verdict.term) for name, method in methods.items()}
    owners = [(name, setting) for name, setting in weights.items() if setting]
    name, setting = owners[0] if owners else ("+".join(methods), "its weight")
    remedy = f"{'raise' if weak else 'lower'} {setting}"
    extent = f"below {LEAST_RATIO:g}: the term has almost no effect"
    if not weak:
        extent = f"above {LARGEST_RATIO:g}: it outweighs the detection loss"
    return (
        f"warning: method '{name}': the gradient of {verdict.term} at the neck is "
        f"{verdict.ratio:.2g} times that of detection (median of {verdict.probes} "
        f"probe{'s' * (verdict.probes > 1)} up to step {verdict.step}), {extent}; {remedy}, "
        f"or choose another form (kd methods {name})"
    )
