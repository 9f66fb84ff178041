"""TIDE: the AP that each type of error costs, and how runs differ in it."""
