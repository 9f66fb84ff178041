"""Text and JSON of ``kd plan --next``: decided rows, the next seed, its price and its command."""

import shlex
from typing import Any

from tabulate import tabulate

from analysis.planning.next_seeds import NextSeeds, Price
from analysis.statistics.equivalence import UNDETERMINED
from analysis.statistics.looks import Rule
from analysis.statistics.sequential import CellProgress
from kd.common.documents import json_document
from kd.config.plan import Plan
from kd.workflow.options import study_config
from kd.workflow.plan_text import hours_text

COLUMNS = ("row", "seeds", "gain", "p", "p, no gain", "decision")
UNDECIDED = "undecided"


def describe_next(plan: Plan, state: NextSeeds, rule: Rule, study: str, scale: str) -> str:
    """Return the rule, the decisions, and the command of the next look with its price."""
    rows = [_cells(key, progress) for cell, progress in state.progress for key in cell.selected]
    align = ("left", *["right"] * 4, "left")
    table = tabulate(rows, COLUMNS, tablefmt="plain", colalign=align, disable_numparse=True)
    lines = [rule_text(rule)]
    if state.measured:
        lines += ["", table, ""]
    return "\n".join([*lines, *_next_lines(plan, state, rule, study, scale)])


def rule_text(rule: Rule) -> str:
    """Return the looks of a rule and their levels."""
    levels = rule.levels
    first, last = levels[rule.first], levels[rule.most]
    if rule.first == rule.most:
        return f"Rule: one look at {rule.most} seeds, at level {last:.3g} for all rows of a table."
    return (
        f"Rule: looks at {rule.first} to {rule.most} seeds, fixed before the first look.\n"
        f"Level {first:.3g} below {rule.most} seeds and {last:.3g} at {rule.most}, "
        f"together {rule.level:g} for all rows of a table."
    )


def _cells(key: str, progress: CellProgress) -> tuple[str, ...]:
    """Return the cells of a row."""
    estimate, decision = progress.estimates.get(key), progress.decisions.get(key)
    word = decision.word if decision else UNDECIDED
    if estimate is None:
        return key, "-", "-", "-", "-", word
    return (
        key,
        str(estimate.seeds),
        f"{estimate.gain.mean:+.2f}",
        _p(estimate.gain.p_adjusted),
        _p(estimate.judgment.p_corrected),
        word,
    )


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def _next_lines(plan: Plan, state: NextSeeds, rule: Rule, study: str, scale: str) -> list[str]:
    decisions = [one for _, progress in state.progress for one in progress.decisions.values()]
    if not state.progress:
        return ["The plan has no row with a gain over a baseline, so no number of seeds decides."]
    if state.seeds is None:
        left = sum(one.word == UNDETERMINED for one in decisions)
        if not left:
            return ["Stop: all rows are decided."]
        return [f"Stop: {rule.most} seeds are the most. {_count(left, 'row')} stay undetermined."]
    command = shlex.join(["snakemake", *study_config(study, scale, _options(plan, state))])
    total = len(decisions) + sum(len(progress.undecided) for _, progress in state.progress)
    lines = []
    if state.measured:
        lines.append(f"Decided: {len(decisions)} of {_count(total, 'row')}.")
        lines.append(
            f"Next: {state.seeds} seeds for {_count(len(state.rows), 'undecided row')} and the "
            f"baselines: {_price(state.price)}."
        )
    else:
        lines.append(f"Nothing is measured. Start with {state.seeds} seeds: {_price(state.price)}.")
    lines += [f"  {command}", "Then run this command again."]
    lines.append(
        f"If no other row is decided before {rule.most} seeds: {_price(state.whole_price)} in all."
    )
    return lines


def _options(plan: Plan, state: NextSeeds) -> Any:
    """Return the options of the plan for the seeds and the rows of the next look."""
    changes: dict[str, Any] = {"seeds": state.seeds}
    selected = [key for cell, _ in state.progress for key in cell.selected]
    if {*state.rows} != {*selected}:
        changes["rows"] = state.rows
    return plan.options.model_copy(update=changes)


def _price(price: Price) -> str:
    text = f"{_count(price.trainings, 'training')}, about {hours_text(price.hours)}"
    if price.without_estimate:
        text += f" and {price.without_estimate} trainings without an estimate"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def next_json(state: NextSeeds, rule: Rule) -> str:
    """Return the rule, the decisions, and the next look with its price as JSON."""
    return json_document(
        {
            "levels": rule.levels,
            "rows": [
                _row(key, cell.key, progress)
                for cell, progress in state.progress
                for key in cell.selected
            ],
            "next": {
                "seeds": state.seeds,
                "rows": state.rows,
                "trainings": state.price.trainings,
                "hours": state.price.hours,
                "without_estimate": state.price.without_estimate,
            },
        }
    )


def _row(key: str, baseline: str, progress: CellProgress) -> dict[str, Any]:
    estimate, decision = progress.estimates.get(key), progress.decisions.get(key)
    return {
        "key": key,
        "baseline": baseline,
        "word": decision.word if decision else None,
        "decided_at": decision.seeds if decision else None,
        "seeds": estimate.seeds if estimate else None,
        "gain": estimate.gain.mean if estimate else None,
        "p": estimate.gain.p_adjusted if estimate else None,
        "p_no_gain": estimate.judgment.p_corrected if estimate else None,
    }
