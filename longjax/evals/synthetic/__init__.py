"""Synthetic evaluation data: a module for each benchmark, whose `files` makes its files in the benchmark's schema."""
