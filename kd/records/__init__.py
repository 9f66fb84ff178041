"""Records of a run: the inputs of each step, and the provenance of its results."""
