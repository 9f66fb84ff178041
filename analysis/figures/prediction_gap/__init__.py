"""Differences of predictions (P_dif) and features (F_dif) of teacher and student."""
