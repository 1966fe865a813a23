r"""LM-Infinite: a local window and the first tokens, distances capped at the window.

python -m experiments.lm_infinite --preset=mini
python -m experiments.lm_infinite --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/lm_infinite

Nothing is trained.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): PG19 perplexity 6.7, needle 23.9, many-shot 61.5,
LongBench 25.84, RULER 12.34.
"""

from longjax.cli.train import experiment
from longjax.methods import lm_infinite

if __name__ == "__main__":
    experiment(lm_infinite)
