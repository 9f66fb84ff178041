"""Lists of names in texts and sentences."""

import pytest

from kd.common.lists import enumerate_names, split_list


@pytest.mark.parametrize("text", ["a,b c", "a b,c", " a, b,c ", ["a,b", "c"]])
def test_commas_and_spaces_separate_names(text: str | list[str]) -> None:
    assert split_list(text) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("names", "sentence"), [(["A"], "A"), (["A", "B"], "A and B"), ("ABC", "A, B and C")]
)
def test_names_are_joined_as_in_a_sentence(names: list[str] | str, sentence: str) -> None:
    assert enumerate_names(names) == sentence
