r"""CLEX: frequencies that follow a learned differential equation in the extension factor. Trained.

python -m experiments.clex --preset=mini
python -m experiments.clex --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/clex --export_dir=runs/clex/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
--preset=clex trains as the authors do: at 4K, on random factors.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): PG19 perplexity 5.8, needle 71.1, many-shot 74.0,
LongBench 33.5, RULER 52.2.
"""

from longjax.cli.train import experiment
from longjax.methods import clex

if __name__ == "__main__":
    experiment(clex)
