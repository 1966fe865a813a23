"""Benchmarks: requests for a model, the records of its responses, and scores made of records. Imports `data`, not JAX.

`benchmarks.py` is the table of all of them; each has a settings dataclass, whose fields are flags, and a `score`.
"""
