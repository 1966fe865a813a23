"""RULER: thirteen synthetic tasks of any length (Hsieh et al. 2024, arXiv:2404.06654).

versions.py says what the three versions of it differ in, sizing.py how samples become as long as they are.
"""

from longjax.evals.ruler.length_fitting import TooShortError
from longjax.evals.ruler.scoring import export_ruler, score
from longjax.evals.ruler.tasks import Ruler

__all__ = ["Ruler", "TooShortError", "export_ruler", "score"]
