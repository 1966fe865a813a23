r"""NTK trained at 64K with the alpha of the paper's tables 7 and 8.

python -m experiments.ntk_64k --preset=mini
python -m experiments.ntk_64k --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/ntk_64k --export_dir=runs/ntk_64k/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): PG19 perplexity 5.9, needle 69.1, many-shot 73.0,
LongBench 34.3, RULER 60.0.
"""

from longjax.cli.train import experiment
from longjax.methods import ntk_64k

if __name__ == "__main__":
    experiment(ntk_64k)
