"""Statistics of scores: paired bootstrap, correlations. Imports evals."""
