"""Published weights: imported in place of a training, or the start of one."""
