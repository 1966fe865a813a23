"""LongLoRA with the fixed groups of its supervised fine-tuning.

python -m experiments.longlora_sft --preset=mini
python -m experiments.longlora_sft --preset=llama2_7b --base_dir=... --text_dir=... --group=8192
"""

from longjax.cli import experiment
from longjax.methods import longlora_sft

if __name__ == "__main__":
    experiment(longlora_sft)
