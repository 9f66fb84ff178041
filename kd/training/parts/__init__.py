"""Steps whose batch is computed in parts, one after the other."""
