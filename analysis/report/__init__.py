"""The report of a study: one HTML file that needs nothing else, see docs/reference/report.md."""
