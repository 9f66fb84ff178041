"""Cost of a training step: by part, against its bound, in memory and in waiting for the host."""
