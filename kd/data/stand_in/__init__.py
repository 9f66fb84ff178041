"""Stand-in data: generated files in the format of a data set that is not on this machine."""
