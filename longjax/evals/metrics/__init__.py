"""Pure functions from what was said and what should have been said to a share in 0..1, as the benchmarks count it."""
