"""Final anchors: the final box of an object, and the prior that it was regressed from."""
