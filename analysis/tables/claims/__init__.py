"""Claims: published gains with the command, the condition and the time that reproduce each."""
