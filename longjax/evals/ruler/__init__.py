"""RULER: thirteen synthetic tasks of any length (Hsieh et al. 2024, arXiv:2404.06654).

versions.py has the three versions of the benchmark, length_fitting.py fits samples to a length.
"""

from longjax.evals.ruler.length_fitting import TooShortError
from longjax.evals.ruler.scoring import export_ruler, score
from longjax.evals.ruler.tasks import Ruler

__all__ = ["Ruler", "TooShortError", "export_ruler", "score"]
