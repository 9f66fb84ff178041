"""Reference of the configuration: current, complete, and with examples that are valid."""

import pytest
import yaml

from docs.build.configuration import KINDS, PAGE, Kind, attribute_docstrings, page
from docs.build.configuration_examples import COLUMN_MEANINGS, EXAMPLES
from kd.config.published import COLUMNS
from tests.support.paths import REPOSITORY


def test_the_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert PAGE.read_text() == page(), "run `python -m docs.build.configuration`"


@pytest.mark.parametrize("kind", KINDS, ids=[kind.model.__name__ for kind in KINDS])
def test_every_key_has_a_meaning_and_every_kind_a_valid_example(kind: Kind) -> None:
    for model in (kind.model, *kind.blocks):
        assert model.model_fields.keys() <= attribute_docstrings(model).keys()
    kind.model.parse(yaml.safe_load(EXAMPLES[kind.model.__name__]), "the example")


def test_every_column_of_published_numbers_has_a_meaning() -> None:
    assert tuple(COLUMN_MEANINGS) == COLUMNS
