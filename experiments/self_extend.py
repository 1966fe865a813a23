r"""Self-Extend: distances beyond a window in groups of tokens.

python -m experiments.self_extend --preset=mini
python -m experiments.self_extend --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/self_extend

Nothing is trained.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): needle 25.8, many-shot 72.0, LongBench 33.6, RULER
29.5.
"""

from longjax.cli.train import experiment
from longjax.methods import self_extend

if __name__ == "__main__":
    experiment(self_extend)
