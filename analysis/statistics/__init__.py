"""Statistics over seeds and resampled images: means, intervals, power and verdicts."""
