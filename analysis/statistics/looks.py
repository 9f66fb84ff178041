"""Sequential rule for seeds: look at the gains after each added seed, and stop when decided.

A study begins with ``Rule.first`` seeds and adds one at a time, up to ``Rule.most``. Each number of
seeds is a look. The error of the table is divided among the looks before the first one: half of it
is for the last look, the other half is shared equally by the earlier looks. The probability of any
false gain is at most the sum of the levels, however the looks depend on each other (Bonferroni). No
distribution over looks is assumed, so the rule holds for few seeds, for a family of rows over one
baseline, and for rows that stop at different looks.

Spending functions such as those of Lan and DeMets (Biometrika 70, 1983) give higher levels, but
rest on the distribution of one normal mean of known variance over looks. With estimated variances
and several gains over one baseline their error exceeds the nominal one.
"""

from dataclasses import dataclass

from analysis.statistics.seeds import SIGNIFICANT
from kd.common.errors import UserError


@dataclass(frozen=True)
class Rule:
    """The numbers of seeds at which a study is looked at; fixed before the first look."""

    first: int = 3
    """Seeds of the first look."""
    most: int = 8
    """Seeds of the last look."""
    level: float = SIGNIFICANT
    """Probability of a false gain in a table, over all looks."""

    def check(self) -> None:
        """Raise UserError if the rule has no look, or a look with fewer than two seeds."""
        if self.first < 2:
            raise UserError(f"--first {self.first}: a look takes at least 2 seeds; give 2 or more")
        if self.most < self.first:
            raise UserError(
                f"--most {self.most}: the first look takes {self.first} seeds; give "
                f"{self.first} or more, or a smaller --first"
            )

    @property
    def levels(self) -> dict[int, float]:
        """The level of each look by its number of seeds; they sum to ``level``."""
        looks = range(self.first, self.most + 1)
        if len(looks) == 1:
            return {self.most: self.level}
        early = self.level / 2 / (len(looks) - 1)
        return {seeds: self.level / 2 if seeds == self.most else early for seeds in looks}
