"""The sequential rule on a tiny study: decided rows, the next look, its price and command."""

import json
import shlex

import pytest

from analysis.planning.next_seeds import next_seeds
from analysis.planning.next_text import describe_next, next_json
from analysis.statistics.looks import Rule
from analysis.statistics.sequential import follow
from kd.common.errors import UserError
from kd.config.library import Library
from tests.support.measured import measure

RULE = Rule(first=3, most=5)


def texts(plan, rule=RULE):
    """Return the state of a plan and its text."""
    state = next_seeds(plan, rule, Library())
    return state, describe_next(plan, state, rule, "tiny", "tiny")


def test_a_study_without_runs_starts_with_the_first_look(planned):
    state, text = texts(planned(5))
    assert (state.measured, state.seeds) == (0, 3)
    # A teacher, three baselines and three runs of each of two methods.
    assert state.price.trainings == 10 and state.whole_price.trainings == 16
    assert "Nothing is measured. Start with 3 seeds: 10 trainings" in text
    assert "  snakemake --config study=tiny scale=tiny seeds=3\n" in text
    assert "Level 0.0125 below 5 seeds and 0.025 at 5, together 0.05" in text


def test_a_look_waits_for_all_of_its_runs(planned):
    plan = planned(5)
    measure(plan, "baseline", 20.0, 20.1, 20.2)
    measure(plan, "rm", 25.0, 25.1, 25.3)
    state, text = texts(plan)
    assert state.seeds == 3 and len(state.rows) == 2
    assert "Decided: 0 of 2 rows" in text and "seeds=3" in text and "rows=" not in text


def test_a_clear_row_is_decided_and_only_the_other_gets_a_seed(planned):
    plan = planned(5)
    measure(plan, "baseline", 20.0, 20.5, 21.0)
    measure(plan, "rm", 28.0, 28.6, 29.1)
    measure(plan, "rm+pfi", 20.9, 20.8, 22.0)
    state, text = texts(plan)
    ((_, progress),) = state.progress
    assert [decision.word for decision in progress.decisions.values()] == ["helps"]
    assert state.seeds == 4 and [key.split("/")[-1] for key in state.rows] == ["rm+pfi"]
    assert "Decided: 1 of 2 rows." in text
    assert "seeds=4 rows=pair/1x/retinanet/r50-r18/rm+pfi\n" in text
    content = json.loads(next_json(state, RULE))
    assert content["levels"] == {"3": 0.0125, "4": 0.0125, "5": 0.025}
    assert [row["word"] for row in content["rows"]] == ["helps", None]
    assert content["next"]["seeds"] == 4 and content["next"]["trainings"] == 9


def test_the_command_trains_the_runs_of_the_price(planned):
    plan = planned(5)
    measure(plan, "baseline", 20.0, 20.5, 21.0)
    measure(plan, "rm", 28.0, 28.6, 29.1)
    measure(plan, "rm+pfi", 20.9, 20.8, 22.0)
    state, text = texts(plan)
    (command,) = (line for line in text.splitlines() if line.startswith("  snakemake --config "))
    options = dict(word.split("=", 1) for word in shlex.split(command)[2:])
    runs = planned(int(options["seeds"]), rows=options["rows"].split(",")).runs
    assert len(runs) == state.price.trainings
    assert {run.method for run in runs.values() if run.seed == 3} == {None, "rm+pfi"}


def test_no_gain_is_a_decision_too_and_ends_the_study(planned):
    plan = planned(5)
    measure(plan, "baseline", 20.0, 20.5, 21.0)
    measure(plan, "rm", 20.01, 20.5, 21.01)
    measure(plan, "rm+pfi", 19.99, 20.51, 21.0)
    state, text = texts(plan)
    assert state.seeds is None and text.endswith("Stop: all rows are decided.")
    assert text.count("no gain worth half a point") == 2
    assert json.loads(next_json(state, RULE))["next"]["seeds"] is None


def test_the_last_look_ends_the_study(planned):
    plan = planned(5)
    measure(plan, "baseline", 20.0, 23.0, 21.0, 24.0, 20.0)
    measure(plan, "rm", 22.0, 21.0, 23.0, 22.0, 25.0)
    measure(plan, "rm+pfi", 24.0, 20.0, 21.0, 25.0, 22.0)
    state, text = texts(plan)
    assert state.seeds is None and state.price.trainings == 0
    assert text.endswith("Stop: 5 seeds are the most. 2 rows stay undetermined.")


def test_a_selection_is_judged_with_all_rows_of_its_table(planned):
    plan = planned(5)
    measure(plan, "baseline", 20.0, 20.5, 21.0)
    measure(plan, "rm", 20.9, 21.2, 22.1)
    state, text = texts(planned(5, methods=["rm"]))
    ((cell, progress),) = state.progress
    assert list(progress.undecided) == state.rows and len(state.rows) == 1
    assert "methods=rm" in text and "rows=" not in text
    alone = follow(range(5), cell.baseline_values, cell.values, RULE)
    (row,) = state.rows
    assert progress.estimates[row].gain.p_adjusted > alone.estimates[row].gain.p_adjusted


@pytest.mark.parametrize(("first", "most", "flag"), [(1, 5, "--first"), (4, 3, "--most")])
def test_a_rule_without_looks_is_a_mistake(first, most, flag):
    with pytest.raises(UserError, match=flag):
        Rule(first, most).check()
