"""Power of a paired t test: the smallest gain that a number of seeds detects."""

from analysis.statistics.seeds import SIGNIFICANT, seeds_needed


def detectable(std: float, seeds: int, alpha: float = SIGNIFICANT) -> float | None:
    """Return the smallest gain, in the unit of ``std``, that ``seeds`` seeds detect.

    It is the inverse of ``seeds_needed``, to a thousandth; ``alpha``: the level of the test. None
    with fewer than two seeds.
    """
    if seeds < 2 or std == 0:
        return None if seeds < 2 else 0.0

    def missed(gain: float) -> bool:
        return seeds_needed(std, gain, alpha=alpha) > seeds

    # Fewer seeds suffice for a larger gain: bracket the smallest one, then bisect.
    low, high = 0.0, std
    while missed(high):
        low, high = high, 2 * high
    while high - low > high / 1000:
        middle = (low + high) / 2
        low, high = (middle, high) if missed(middle) else (low, middle)
    return high
