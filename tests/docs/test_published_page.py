"""Page of published numbers that studies cover, and of those that they do not."""

import re

from docs.build.published import PAGE, page
from kd.config.library import Library
from tests.support.paths import CONFIGS

TEXT = page(Library(CONFIGS))


def test_the_page_is_current() -> None:
    assert (CONFIGS.parent / PAGE).read_text() == TEXT, "run `python -m docs.build.published`"


def test_its_counts_add_up() -> None:
    everything, reproduced, missing = map(
        int,
        re.findall(
            r"has (\d+) rows.* cover (\d+) of them.* (\d+) rows are not covered",
            TEXT.replace("\n", " "),
        )[0],
    )
    assert everything == reproduced + missing == 294
    rows = TEXT.split("## Rows that are not covered")[1].count("\n| ")
    assert rows == missing + 2  # the header and its rule


def test_the_table_of_a_study_has_its_number_of_rows() -> None:
    assert "| `rm_pfi` | `table5` | RM-PFI AAAI2022 (arXiv 2112.04840), T5 | 7 | 5 |" in TEXT
    assert "| `rm_pfi` | `table6_r101` | RM-PFI AAAI2022 (arXiv 2112.04840), T6 | 6 | 4 |" in TEXT
    assert "`ours`" not in TEXT
