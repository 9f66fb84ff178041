"""Training: the distiller, the loop and its hooks, launching, resuming, validation."""
