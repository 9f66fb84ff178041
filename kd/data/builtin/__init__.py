"""The built-in data set of generated shapes."""
