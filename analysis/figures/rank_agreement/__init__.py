"""Rank agreement: teacher and student final boxes from the same prior, and ranks of priors."""
