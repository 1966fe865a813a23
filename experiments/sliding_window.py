r"""A sliding window alone: the ablation of LM-Infinite.

python -m experiments.sliding_window --preset=mini
python -m experiments.sliding_window --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/sliding_window

Nothing is trained.
"""

from longjax.cli.train import experiment
from longjax.methods import sliding_window

if __name__ == "__main__":
    experiment(sliding_window)
