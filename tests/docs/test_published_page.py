"""The page of what is reproduced and what is not."""

import re

from docs.build.published import PAGE, page
from kd.config.library import Library
from tests.support.paths import CONFIGS

TEXT = page(Library(CONFIGS))


def test_the_page_is_current() -> None:
    assert (CONFIGS.parent / PAGE).read_text() == TEXT, "run `python -m docs.build.published`"


def test_its_counts_add_up() -> None:
    everything, answered, absent = map(
        int,
        re.findall(r"has (\d+) rows.* (\d+) of them.*; (\d+) are not", TEXT.replace("\n", " "))[0],
    )
    assert everything == answered + absent == 294
    listed = TEXT.split("## Not reproduced here")[1].count("\n| ")
    assert listed == absent + 2  # the header and its rule


def test_a_table_of_a_study_is_listed_with_its_rows() -> None:
    assert "| `rm_pfi` | `table5` | RM-PFI AAAI2022 (arXiv 2112.04840), T5 | 7 | 5 |" in TEXT
    assert "| `rm_pfi` | `table6_r101` | RM-PFI AAAI2022 (arXiv 2112.04840), T6 | 6 | 4 |" in TEXT
    assert "`ours`" not in TEXT
