"""The workflow's view of a plan: its options, targets, cost and budget."""
