"""The evidence: what ``docs/evidence.md`` says of runs, from data committed beside it."""
