"""Gains of a student over its baseline, with their intervals, tests and judgment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.statistics.comparison import CellComparison
from analysis.statistics.equivalence import HELPS, HURTS, UNDETERMINED, Word
from analysis.statistics.joint import Probability, joint_interval, probability_of_gain
from analysis.statistics.seeds import Interval, mean_std, sign_flip_test, t_interval, t_test
from kd.evaluation.voc import Floats


@dataclass(frozen=True)
class Gain:
    """A gain in AP points, with the statistics of its cell; without them it is undetermined."""

    mean: float
    """Least-squares gain of the cell's model: the mean over shared seeds if no run is missing."""
    std: float | None = None
    """Sample standard deviation over the shared seeds; None of one seed."""
    over_seeds: Interval | None = None
    """95 % t interval of these seeds alone."""
    over_images: Interval | None = None
    """95 % interval over resampled test images."""
    p: float | None = None
    """p of the paired t test of these seeds alone."""
    p_exact: float | None = None
    """p of the sign-flip test of these seeds alone."""
    simultaneous: Interval | None = None
    """95 % interval, which holds for all planned rows together; spans both of the following."""
    pooled: Interval | None = None
    """The same by one residual variance of all rows."""
    moderated: Interval | None = None
    """The same by a moderated variance of each row."""
    p_model: float | None = None
    """p of this gain alone, by the cell's model: the larger of the pooled and the moderated one."""
    p_adjusted: float | None = None
    """p adjusted for all planned rows: below 0.05 if ``simultaneous`` excludes 0."""
    p_equivalence: float | None = None
    """p of a gain or loss of half a point or more, corrected for all planned rows."""
    judgment: Word = UNDETERMINED
    joint: Interval | None = None
    """95 % interval over seeds and test images together, of this gain alone."""
    probability: Probability | None = None
    """Probability that the student of a new seed is better than its baseline."""
    q: float | None = None
    """False discovery rate of ``p_model`` among all tables of a page."""

    @property
    def significant(self) -> bool:
        """True if the simultaneous interval excludes 0."""
        return self.judgment in (HELPS, HURTS)


def paired_gains(student: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Return the gains of ``student`` over ``baseline``, in the order of the seeds.

    Both map a seed to a metric; seeds that only one of them has are left out.
    """
    shared = sorted(student.keys() & baseline.keys())
    return [student[seed] - baseline[seed] for seed in shared]


def mean_gain(gains: Sequence[float], over_images: Interval | None = None) -> Gain | None:
    """Return the mean of paired gains with its interval and tests; None without a gain."""
    mean, std, _ = mean_std(gains)
    if mean is None:
        return None
    return Gain(mean, std, t_interval(gains), over_images, t_test(gains), sign_flip_test(gains))


def judged(
    gain: Gain, comparison: CellComparison | None, name: str, samples: Floats | None
) -> Gain:
    """Return a gain with the statistics of the row ``name`` of its cell, if the cell has any.

    ``samples``: (S, 1 + R) of ``analysis.statistics.resampled.gain_samples``, None without any.
    """
    if comparison is None or name not in comparison.confirmed:
        return gain
    confirmed, judgment = comparison.confirmed[name], comparison.judgments[name]
    pooled, moderated = comparison.pooled[name], comparison.moderated[name]
    # Statements on one gain have the moderated error. With the larger one of the verdict, the joint
    # interval would cover 95 to 98 % of studies.
    mean, error, df = moderated.mean, moderated.standard_error, moderated.df
    # The variance of one gain over that of the mean: the number of seeds if no run is missing.
    ratio = 2 * (comparison.std / pooled.standard_error) ** 2
    joint = None
    if samples is not None:
        # Where runs are missing, the model's gain differs from the mean over shared seeds.
        joint = joint_interval(samples + (mean - samples[:, 0].mean()), error, df)
    return replace(
        gain,
        mean=mean,
        simultaneous=confirmed.over_seeds,
        pooled=pooled.over_seeds,
        moderated=moderated.over_seeds,
        p_model=confirmed.p,
        p_adjusted=confirmed.p_adjusted,
        p_equivalence=judgment.p_corrected,
        judgment=judgment.word,
        joint=joint,
        probability=probability_of_gain(mean, error, df, ratio),
    )
