"""Dynamic NTK without training (NTK-Frozen of the paper).

python -m experiments.ntk_frozen --preset=mini
python -m experiments.ntk_frozen --preset=llama2_7b --base_dir=... --text_dir=... --scale=2
"""

from longjax.cli import experiment
from longjax.methods import ntk_frozen

if __name__ == "__main__":
    experiment(ntk_frozen)
