"""Metrics of the benchmarks: pure functions of a prediction and its references, with scores in 0..1."""
