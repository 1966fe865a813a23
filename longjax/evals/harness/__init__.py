"""Short tasks through lm-evaluation-harness (Gao et al. 2021, doi:10.5281/zenodo.5371628), offline.

The package lm_eval is an extra, `pip install longjax[harness]`, and imported only when short tasks are run. Files have
the schema of their data sets: where there is a network, `datasets.load_dataset("Rowan/hellaswag", split="validation")
.to_json("short/hellaswag.jsonl")` writes one (catalog.py says which splits).
"""

from longjax.evals.harness.runner import ShortTasks, prepare_short_tasks, run_short_tasks
from longjax.evals.harness.scoring import score

__all__ = ["ShortTasks", "prepare_short_tasks", "run_short_tasks", "score"]
