"""Descriptions of analyses on the command line."""

from analysis import figures


def describe_all() -> str:
    """Return a line for each analysis, its name and its question, and the commands that draw it."""
    width = max(map(len, figures.names()))
    lines = [f"{name:{width}}  {figures.get(name).question}" for name in figures.names()]
    usage = {
        "kd figures NAME": "describes an analysis and its settings",
        "kd figures NAME RUN ...": "draws it from finished runs",
        "snakemake figures": "draws those of a study",
        "snakemake paper_figures": "draws the figures of its paper",
    }
    lines += ["", *(f"`{command}` {text}" for command, text in usage.items())]
    return "\n".join(lines)


def describe(name: str) -> str:
    """Return the definition of an analysis, its settings with their defaults, and its files."""
    kind = figures.get(name)
    defaults = kind().model_dump()
    paragraphs = [f"{name}: {kind.title}", kind.question, kind.definition()]
    paragraphs += [kind.explain(key, str(value)) for key, value in defaults.items()]
    paragraphs.append(f"Reads {', '.join(kind.reads)} of each run.")
    paragraphs.append(f"Writes {', '.join(kind.files())}.")
    return "\n\n".join(paragraphs)
