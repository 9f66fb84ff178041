"""Commands that write the results of a study: ``table`` and ``report``."""

import sys
from argparse import Namespace

from kd.cli.plan import plan_of, scale_of, study_options


def write_tables(options: Namespace) -> None:
    """Write and print a study's tables from the results that exist.

    UserError with the option ``--complete`` if a run has none.
    """
    from analysis.tables.write import PARTIAL, publish
    from kd.common.errors import UserError
    from kd.config.run import study_folder

    scale = scale_of(options)
    print(publish(plan_of(options), options.study, scale))
    folder = study_folder(options.study, scale)
    partial = folder / PARTIAL
    is_partial = partial.is_dir()
    print(f"written to {partial if is_partial else folder}", file=sys.stderr)
    if options.complete and is_partial:
        raise UserError(
            f"{partial}: runs of study '{options.study}' are missing; `kd status {options.study} "
            f"--scale {scale}` lists them. If its configuration changed since `snakemake` started, "
            "run `snakemake` again."
        )


def write_report(options: Namespace) -> None:
    """Write a study's page from the results that exist, once or every few seconds."""
    from analysis.report.page import ReportRequest, watch, write
    from kd.config.library import Library

    request = ReportRequest(options.study, scale_of(options), study_options(options))
    plan = plan_of(options)
    if options.watch:
        watch(request, plan, Library(), options.watch)
    else:
        print(write(request, plan, Library()))
