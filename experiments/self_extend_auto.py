r"""Self-Extend with the smallest group that the length needs.

python -m experiments.self_extend_auto --preset=mini
python -m experiments.self_extend_auto --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/self_extend_auto

Nothing is trained.
"""

from longjax.cli.train import experiment
from longjax.methods import self_extend_auto

if __name__ == "__main__":
    experiment(self_extend_auto)
