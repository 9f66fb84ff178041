"""Ablation plots: AP over the values of a swept setting."""
