"""Ablation: AP over the values of one setting."""
