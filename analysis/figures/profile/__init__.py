"""Profile: the cost of a training step by part (``kd profile``)."""
