"""Monitoring: the status of runs and jobs, the queue, logs and failures."""
