"""LM-Infinite whose last query also sees the best middle keys (its authors' downstream runs). Frozen.

python -m experiments.lm_infinite_topk --preset=mini
python -m experiments.lm_infinite_topk --preset=llama2_7b --base_dir=... --text_dir=... --top_k=5
"""

from longjax.cli import experiment
from longjax.methods import lm_infinite_topk

if __name__ == "__main__":
    experiment(lm_infinite_topk)
