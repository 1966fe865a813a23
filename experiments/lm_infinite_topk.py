r"""LM-Infinite whose last query also attends to the best middle keys, as in its authors' downstream runs.

python -m experiments.lm_infinite_topk --preset=mini
python -m experiments.lm_infinite_topk --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/lm_infinite_topk

Nothing is trained.
"""

from longjax.cli.train import experiment
from longjax.methods import lm_infinite_topk

if __name__ == "__main__":
    experiment(lm_infinite_topk)
