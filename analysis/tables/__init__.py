"""Tables of a study: rows from runs, comparability, formatting, Markdown and LaTeX."""
