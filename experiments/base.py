r"""The base model without any method: the baseline of all others.

python -m experiments.base --preset=mini
python -m experiments.base --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/base

Nothing is trained.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): LongBench 32.92.
"""

from longjax.cli.train import experiment
from longjax.methods import base

if __name__ == "__main__":
    experiment(base)
