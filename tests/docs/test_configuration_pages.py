"""Reference of the configuration, and page of published numbers: current and complete."""

import re

import pytest
import yaml

from docs.build import configuration, published
from docs.build.configuration import KINDS, Kind
from docs.build.configuration_examples import COLUMN_MEANINGS, EXAMPLES
from kd.common.schema import attribute_docstrings
from kd.config.library import Library
from kd.config.published import COLUMNS, SOURCE_STUDENT
from tests.support.paths import CONFIGS, REPOSITORY

TEXT = published.page(Library(CONFIGS))


def test_the_page_of_published_numbers_is_current() -> None:
    assert (CONFIGS.parent / published.PAGE).read_text() == TEXT, (
        "run `python -m docs.build.published`"
    )


def test_its_counts_add_up() -> None:
    everything, reproduced, missing = map(
        int,
        re.findall(
            r"has (\d+) rows.* cover (\d+) of them.* (\d+) rows are not covered",
            TEXT.replace("\n", " "),
        )[0],
    )
    assert everything == reproduced + missing >= 294
    rows = TEXT.split("## Rows that are not covered")[1].count("\n| ")
    assert rows == missing + 2  # the header and its rule


def test_the_table_of_a_study_has_its_number_of_rows() -> None:
    assert "| `rm_pfi` | `table5` | RM-PFI AAAI2022 (arXiv 2112.04840), T5 | 7 | 5 |" in TEXT
    assert "| `rm_pfi` | `table6_r101` | RM-PFI AAAI2022 (arXiv 2112.04840), T6 | 6 | 4 |" in TEXT
    assert "`ours`" not in TEXT


def test_the_reference_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    text = configuration.PAGE.read_text()
    assert text == configuration.page(), "run `python -m docs.build.configuration`"


@pytest.mark.parametrize("kind", KINDS, ids=[kind.model.__name__ for kind in KINDS])
def test_every_key_has_a_meaning_and_every_kind_a_valid_example(kind: Kind) -> None:
    for model in (kind.model, *kind.blocks):
        assert model.model_fields.keys() <= attribute_docstrings(model).keys()
    kind.model.parse(yaml.safe_load(EXAMPLES[kind.model.__name__]), "the example")


def test_every_column_of_published_numbers_has_a_meaning() -> None:
    assert tuple(COLUMN_MEANINGS) == (*COLUMNS, SOURCE_STUDENT)
