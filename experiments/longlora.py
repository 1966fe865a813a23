"""LongLoRA: trained on shifted groups with low-rank adapters, full attention afterwards.

python -m experiments.longlora --preset=mini
python -m experiments.longlora --preset=llama2_7b --base_dir=... --text_dir=... --factor=8 --groups=4
"""

from longjax.cli import experiment
from longjax.methods import longlora

if __name__ == "__main__":
    experiment(longlora)
