"""Power of a planned table cell: the gains that Dunnett's intervals show.

A gain is shown if t exceeds Dunnett's critical value; under a true gain t has a noncentral t
distribution. One variance and complete runs are assumed.
"""

import math
from functools import cache

import numpy as np
import scipy

from analysis.statistics.dunnett import critical_value
from analysis.statistics.pooled import CONFIDENCE
from analysis.statistics.seeds import WORTH_FINDING

POWER = 0.8
MOST_SEEDS = 1000
"""Seeds beyond which none are looked for."""


def pooled_df(seeds: int, methods: int) -> float:
    """Return the degrees of freedom of the pooled variance."""
    return methods * (seeds - 1)


def confirmed_df(seeds: int, methods: int) -> float:
    """Return those of the mean variance of paired gains over a shared baseline.

    Gains of a seed have a correlation of 1/2. Their sum of squares has eigenvalues (m + 1) / 2 once
    and 1 / 2 else, for m methods (Satterthwaite).
    """
    return (seeds - 1) * methods**2 / (((methods + 1) ** 2 + methods - 1) / 4)


def power(
    gain: float, std: float, seeds: int, methods: int, confirmed: bool = True, cells: int = 1
) -> float:
    """Return the probability, 0 to 1, that a true gain is shown.

    ``std``: residual standard deviation in the unit of ``gain``; ``confirmed``: by the pooled and
    the moderated interval, else by the pooled one alone; ``cells``: cells of the table (Sidak).
    """
    if std == 0:
        return float(gain != 0)
    df = (confirmed_df if confirmed else pooled_df)(seeds, methods)
    critical = _critical(methods, df, cells)
    # A significant result of the wrong sign is ignored.
    return 1 - float(scipy.special.nctdtr(df, abs(gain) / std * math.sqrt(seeds / 2), critical))


@cache
def _critical(methods: int, df: float, cells: int) -> float:
    return critical_value(np.full(methods, math.sqrt(0.5)), df, CONFIDENCE ** (1 / cells))


def detectable_gain(
    std: float,
    seeds: int,
    methods: int,
    share: float = POWER,
    confirmed: bool = True,
    cells: int = 1,
) -> float | None:
    """Return the smallest gain with this power, in the unit of ``std``; None with one seed."""
    if seeds < 2 or std == 0:
        return None if seeds < 2 else 0.0

    def excess(gain: float) -> float:
        return power(gain, std, seeds, methods, confirmed, cells) - share

    high = std
    while excess(high) < 0:
        high *= 2
    return float(scipy.optimize.brentq(excess, 0, high, rtol=1e-6))


def pooled_seeds_needed(
    std: float,
    methods: int,
    gain: float = WORTH_FINDING,
    share: float = POWER,
    confirmed: bool = True,
    cells: int = 1,
) -> int | None:
    """Return the fewest seeds, 2 or more, that show a gain with this power; None beyond 1,000."""
    low, high = 1, 2
    while power(gain, std, high, methods, confirmed, cells) < share:
        low, high = high, 2 * high
        if low > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(gain, std, middle, methods, confirmed, cells) >= share
        low, high = (low, middle) if enough else (middle, high)
    return high
