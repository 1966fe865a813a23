r"""Dynamic NTK without training (NTK-Frozen of the paper).

python -m experiments.ntk_frozen --preset=mini
python -m experiments.ntk_frozen --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/ntk_frozen

Nothing is trained.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): PG19 perplexity 14.5, needle 18.8, many-shot 64.5,
LongBench 25.5, RULER 0.72.
"""

from longjax.cli.train import experiment
from longjax.methods import ntk_frozen

if __name__ == "__main__":
    experiment(ntk_frozen)
