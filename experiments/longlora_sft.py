r"""LongLoRA with the fixed groups of its supervised fine-tuning. Trained.

python -m experiments.longlora_sft --preset=mini
python -m experiments.longlora_sft --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/longlora_sft --export_dir=runs/longlora_sft/hf

1 B tokens of a 7B are 3.3e19 operations: 23 H100-hours at 40 % of the peak. --preset=longlora has the authors'
schedule.
"""

from longjax.cli.train import experiment
from longjax.methods import longlora_sft

if __name__ == "__main__":
    experiment(longlora_sft)
