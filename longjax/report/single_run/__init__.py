"""The part of report.md on a study of one run: its table, findings and figures."""
