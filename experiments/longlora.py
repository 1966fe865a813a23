r"""LongLoRA: low-rank adapters trained with shifted groups, then full attention. Trained.

python -m experiments.longlora --preset=mini
python -m experiments.longlora --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/longlora --export_dir=runs/longlora/hf

1 B tokens of a 7B are 3.3e19 operations: 23 H100-hours at 40 % of the peak. --preset=longlora has the authors'
schedule.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): LongBench 23.3, RULER 3.53.
"""

from longjax.cli.train import experiment
from longjax.methods import longlora

if __name__ == "__main__":
    experiment(longlora)
