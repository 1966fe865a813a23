"""ALiBi: no rotation, a bias that grows with distance. For models trained with it.

python -m experiments.alibi --preset=mini
python -m experiments.alibi --preset=llama2_7b --base_dir=... --text_dir=...
"""

from longjax.cli import experiment
from longjax.methods import alibi

if __name__ == "__main__":
    experiment(alibi)
