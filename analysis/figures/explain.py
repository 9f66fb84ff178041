"""What analyses there are, and what one of them is."""

from analysis import figures


def every() -> str:
    """Return a line for each analysis: its name, its title, and what it reads of a run."""
    width = max(map(len, figures.names()))
    kinds = {name: figures.get(name) for name in figures.names()}
    return "\n".join(
        f"{name:{width}}  {kind.title} ({', '.join(kind.reads)})" for name, kind in kinds.items()
    )


def one(name: str) -> str:
    """Return what an analysis is, its settings with their values, and the files that it leaves."""
    kind = figures.get(name)
    settings = kind().model_dump()
    paragraphs = [f"{name}: {kind.title}", kind.definition()]
    paragraphs += [kind.explain(key, str(value)) for key, value in settings.items()]
    paragraphs.append(f"leaves {', '.join(kind.files())}")
    return "\n\n".join(paragraphs)
