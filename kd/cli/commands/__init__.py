"""Commands of ``kd`` by group, with their arguments and help."""
