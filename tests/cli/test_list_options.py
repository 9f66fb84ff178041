"""Lists of names on the command line, with commas or spaces."""

import pytest

from kd.cli.parser import build_parser
from kd.common.errors import UserError


@pytest.mark.parametrize(
    "command",
    [
        "plan rm_pfi --tables table1 table5 --seeds 2",
        "plan rm_pfi --tables table1,table5 --seeds 2",
        "plan rm_pfi --tables table1, table5 --seeds 2",
        "plan rm_pfi --tables table1 --seeds 2 --tables table5,table1",
        "plan --seeds 2 --tables=table1,table5 rm_pfi",
        "plan --tables table1 table5 rm_pfi --seeds 2",
        "plan --seeds 2 --tables table1,table5 rm_pfi",
        "plan --seeds 2 --tables table1 table5 rm_pfi --schedule lr=0.1 epochs=6",
    ],
)
def test_a_list_has_commas_or_spaces_and_may_precede_the_study(command: str) -> None:
    parsed = build_parser().parse_args(command.split())
    assert (parsed.study, parsed.tables, parsed.seeds) == ("rm_pfi", ["table1", "table5"], 2)


@pytest.mark.parametrize("command", ["plan --tables rm_pfi", "plan rm_pfi --tables ,"])
def test_a_missing_study_or_an_empty_list_is_an_error(command: str) -> None:
    with pytest.raises(UserError, match=r"STUDY|--tables"):
        build_parser().parse_args(command.split())
