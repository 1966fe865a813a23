"""report.md of any evaluations: Table 1, a table and a figure for each benchmark, and what cannot be compared."""
