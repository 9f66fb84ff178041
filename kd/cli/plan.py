"""Commands that compose runs: ``plan``, ``compose`` and ``classifier``."""

import json
from argparse import Namespace
from typing import TYPE_CHECKING

from kd.cli.project import MARKER
from kd.cli.terminal import wrap_sentences
from kd.common.errors import UserError

if TYPE_CHECKING:
    from kd.config.plan import Plan
    from kd.config.selection import StudyOptions


def scale_of(options: Namespace) -> str:
    """Return the scale of the command line, by default that of ``configs/default.yaml``."""
    from kd.workflow.options import WorkflowOptions

    return options.scale or WorkflowOptions.read(MARKER).scale


def plan_of(options: Namespace) -> "Plan":
    """Return the plan of the study that a command line names."""
    from kd.config.library import Library
    from kd.config.plan import plan

    return plan(options.study, scale_of(options), Library(), study_options(options))


def study_options(options: Namespace) -> "StudyOptions":
    """Return the selection and the changes of a study that a command line gives."""
    from kd.config.selection import StudyOptions

    return StudyOptions(**{key: getattr(options, key) for key in StudyOptions.model_fields})


def print_plan(options: Namespace) -> None:
    """Print the runs of a study or their budget, and the gains that its seeds can detect."""
    from analysis.planning import power
    from kd.config.library import Library
    from kd.workflow.budget_json import budget_json, trainings_json
    from kd.workflow.budget_text import describe_budget
    from kd.workflow.plan_text import describe_plan

    if options.gpus and not options.budget:
        raise UserError("--gpus applies to a budget only; add --budget")
    if options.next:
        print_next(options)
        return
    for flag in ("first", "most"):
        if getattr(options, flag) is not None:
            raise UserError(f"--{flag} applies to the sequential rule only; add --next")
    plan, library = plan_of(options), Library()
    if options.json:
        print(
            budget_json(plan, library, options.gpus)
            if options.budget
            else trainings_json(plan, library)
        )
        return
    if options.budget:
        text = describe_budget(plan, library, options.gpus)
    else:
        text = describe_plan(plan, library)
    print(wrap_sentences(f"{text}\n{power.describe(plan)}"))


def print_next(options: Namespace) -> None:
    """Print which rows of a study the sequential rule has decided, and the seeds to add next."""
    from analysis.planning.next_seeds import next_seeds
    from analysis.planning.next_text import describe_next, next_json
    from analysis.statistics.looks import Rule
    from kd.config.library import Library

    if options.budget:
        raise UserError("--next and --budget exclude each other; leave out one of them")
    if options.seeds:
        raise UserError("--seeds: with --next, the rule sets the seeds; use --first and --most")
    looks = {key: value for key in ("first", "most") if (value := getattr(options, key))}
    rule = Rule(**looks)
    rule.check()
    # The plan of the last look has the runs of all looks.
    options.seeds = rule.most
    plan = plan_of(options)
    state = next_seeds(plan, rule, Library())
    if options.json:
        print(next_json(state, rule))
    else:
        print(describe_next(plan, state, rule, options.study, scale_of(options)))


def compose_runs(options: Namespace) -> None:
    """Print the configurations of a study's runs, or write them to the directories of the runs."""
    plan = plan_of(options)
    runs_by_name = {**plan.classifiers, **plan.runs}
    runs = [run for name, run in runs_by_name.items() if options.run in name]
    if not runs:
        raise UserError(
            f"no run of the study contains '{options.run}'; "
            f"`kd status {options.study}` lists the runs"
        )
    if not options.write:
        print(json.dumps([{"run": run.name, **run.config} for run in runs], indent=2))
        return
    for run in runs:
        run.write()
        print(run.directory)


def compose_classifier(options: Namespace) -> None:
    """Write the configuration of a classifier's run and print the directory."""
    from kd.config.classifiers import classifier_run
    from kd.config.library import Library
    from kd.config.stand_ins import stand_in

    library, where, scale_name = Library(), "kd classifier", scale_of(options)
    scale = library.scale(scale_name, "--scale")
    library.classifier(options.classifier, where)
    library.dataset(options.dataset, where)
    name = stand_in("classifiers", options.classifier, scale, scale_name, where)
    dataset = stand_in("datasets", options.dataset, scale, scale_name, where)
    run = classifier_run(name, scale_name, dataset, options.seed, library, where)
    run.write()
    print(run.directory)


def print_rehearsals(options: Namespace) -> int:
    """Write and print the table of a study's rehearsals; return 1 if one failed or is missing."""
    from kd.rehearsal.table import write_table
    from kd.rehearsal.trainings import distinct_trainings

    plan = plan_of(options)
    trainings = distinct_trainings([*plan.classifiers.values(), *plan.runs.values()]).values()
    path, text = write_table(options.study, scale_of(options), trainings)
    print(wrap_sentences(f"{text}\n\nAll columns: {path}"))
    return 0 if all(training.record for training in trainings) else 1
