"""Descriptions of analyses on the command line."""

from analysis import figures


def describe_all() -> str:
    """Return a line for each analysis: its name, its title, and the files that it reads."""
    width = max(map(len, figures.names()))
    kinds = {name: figures.get(name) for name in figures.names()}
    return "\n".join(
        f"{name:{width}}  {kind.title} ({', '.join(kind.reads)})" for name, kind in kinds.items()
    )


def describe(name: str) -> str:
    """Return the definition of an analysis, its settings with their defaults, and its files."""
    kind = figures.get(name)
    defaults = kind().model_dump()
    paragraphs = [f"{name}: {kind.title}", kind.definition()]
    paragraphs += [kind.explain(key, str(value)) for key, value in defaults.items()]
    paragraphs.append(f"writes {', '.join(kind.files())}")
    return "\n\n".join(paragraphs)
