r"""YaRN: slow RoPE pairs interpolated, fast pairs kept, a sharper softmax. Trained.

python -m experiments.yarn --preset=mini
python -m experiments.yarn --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/yarn --export_dir=runs/yarn/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): PG19 perplexity 5.9, needle 46.7, many-shot 75.0,
LongBench 33.5, RULER 36.95.
"""

from longjax.cli.train import experiment
from longjax.methods import yarn

if __name__ == "__main__":
    experiment(yarn)
