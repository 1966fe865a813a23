"""The base model as it is: what every method has to beat.

python -m experiments.base --preset=mini
python -m experiments.base --preset=llama2_7b --base_dir=... --text_dir=...
"""

from longjax.cli import experiment
from longjax.methods import base

if __name__ == "__main__":
    experiment(base)
