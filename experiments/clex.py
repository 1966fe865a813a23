"""CLEX: frequencies learned as a differential equation in the factor; trained.

python -m experiments.clex --preset=mini
python -m experiments.clex --preset=llama2_7b --base_dir=... --text_dir=... --max_factor=32
"""

from longjax.cli import experiment
from longjax.methods import clex

if __name__ == "__main__":
    experiment(clex)
