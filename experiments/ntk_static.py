"""NTK-aware scaling with one alpha (equation 9 of the paper), trained.

python -m experiments.ntk_static --preset=mini
python -m experiments.ntk_static --preset=llama2_7b --base_dir=... --text_dir=... --alpha=8
"""

from longjax.cli import experiment
from longjax.methods import ntk_static

if __name__ == "__main__":
    experiment(ntk_static)
