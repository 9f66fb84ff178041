"""False discovery rate of many gains: a screening of all tables of a page."""

from collections.abc import Sequence


def false_discovery_q(p: Sequence[float | None]) -> list[float | None]:
    """Return q of each p among all that are screened together; None stays None.

    Of the gains with q below 0.05, at most 5 % are expected to be no gains (Benjamini and Hochberg,
    Journal of the Royal Statistical Society B 57, 1995). This holds for independent tests and for
    gains over a shared baseline, which are positively dependent. It does not limit the probability
    of any false gain, as Dunnett's p does.
    """
    ranked = sorted((value, index) for index, value in enumerate(p) if value is not None)
    q: list[float | None] = [None] * len(p)
    smallest = 1.0
    for rank, (value, index) in reversed([*enumerate(ranked, start=1)]):
        smallest = min(smallest, value * (len(ranked) / rank))
        q[index] = smallest
    return q
