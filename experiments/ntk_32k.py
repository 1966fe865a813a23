r"""Dynamic NTK trained at 32K (alpha 29 there; table 8 of the paper).

python -m experiments.ntk_32k --preset=mini
python -m experiments.ntk_32k --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/ntk_32k --export_dir=runs/ntk_32k/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): PG19 perplexity 5.79, needle 83.7, many-shot 71.0,
LongBench 35.32, RULER 59.42.
"""

from longjax.cli.train import experiment
from longjax.methods import ntk_32k

if __name__ == "__main__":
    experiment(ntk_32k)
