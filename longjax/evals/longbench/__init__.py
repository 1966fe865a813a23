"""LongBench (arXiv 2308.14508): 21 tasks on long texts, English, Chinese and code."""

from longjax.evals.longbench.export import export_longbench
from longjax.evals.longbench.scoring import score
from longjax.evals.longbench.tasks import LongBench

__all__ = ["LongBench", "export_longbench", "score"]
