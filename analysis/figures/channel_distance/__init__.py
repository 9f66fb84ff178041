"""Distance of teacher and student features, by channel."""
