"""The benchmarks, each a module with its settings (what is asked) and its `score` (what the answers are worth)."""
