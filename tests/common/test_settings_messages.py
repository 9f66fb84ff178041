"""Messages on settings that may have values of several types."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveFloat

from kd.common.errors import UserError
from kd.common.schema import Part

Sides = tuple[PositiveFloat, ...]


class Settings(Part):
    factor: Literal["scaled", "published"] | Annotated[PositiveFloat, Field()] = "scaled"
    sides: Literal["scaled"] | Sides = "scaled"
    count: int = 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factor": "big"}, "key 'factor': must be 'scaled' or 'published' or a number, not 'big'"),
        ({"factor": 0}, "key 'factor': must be 'scaled' or 'published' or greater than 0, not 0"),
        (
            {"sides": "wide"},
            "key 'sides': must be 'scaled' or a list in brackets, such as [1, 2], not 'wide'",
        ),
        (
            {"sides": [8, -1]},
            "key 'sides': must be 'scaled'; key 'sides.1': must be greater than 0, not -1",
        ),
        ({"count": "many"}, "key 'count': must be a whole number, not 'many'"),
        (
            {"count": "many", "factor": -1},
            "key 'factor': must be 'scaled' or 'published' or greater than 0, not -1; "
            "key 'count': must be a whole number, not 'many'",
        ),
    ],
)
def test_a_value_that_fits_no_type_has_one_sentence(values: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        Settings.parse(values, "here")
    assert str(error.value) == f"here: {message}"


@pytest.mark.parametrize("factor", ["scaled", 2.5])
def test_every_type_is_accepted(factor: object) -> None:
    assert Settings.parse({"factor": factor, "sides": [8, 16]}, "here").factor == factor
