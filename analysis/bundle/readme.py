"""README of a bundle: what it contains, and the commands that verify and repeat it."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.bundle.crate import StudyFacts

TEMPLATE = "README.md.jinja"


def readme(facts: StudyFacts, rows: int, folder: str, runs: int) -> str:
    """Return the text of the README; ``folder``: that of the tables, ``runs``: all trainings."""
    loader = PackageLoader("analysis.bundle")
    environment = Environment(
        loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    template = environment.get_template(TEMPLATE)
    return template.render(facts=facts, rows=rows, folder=folder, runs=runs)
