r"""Leaky ReRoPE: distances beyond a window grow more slowly by a factor.

python -m experiments.leaky_rerope --preset=mini
python -m experiments.leaky_rerope --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/leaky_rerope

Nothing is trained.
"""

from longjax.cli.train import experiment
from longjax.methods import leaky_rerope

if __name__ == "__main__":
    experiment(leaky_rerope)
