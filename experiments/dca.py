r"""Dual chunk attention (ChunkLlama): positions within chunks, capped between distant ones.

python -m experiments.dca --preset=mini
python -m experiments.dca --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/dca

Nothing is trained.
"""

from longjax.cli.train import experiment
from longjax.methods import dca

if __name__ == "__main__":
    experiment(dca)
