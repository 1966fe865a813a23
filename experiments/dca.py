"""Dual chunk attention (ChunkLlama). Frozen.

python -m experiments.dca --preset=mini
python -m experiments.dca --preset=llama2_7b --base_dir=... --text_dir=...
"""

from longjax.cli import experiment
from longjax.methods import dca

if __name__ == "__main__":
    experiment(dca)
