"""No position encoding at all. For models trained without.

python -m experiments.nope --preset=mini
python -m experiments.nope --preset=llama2_7b --base_dir=... --text_dir=...
"""

from longjax.cli import experiment
from longjax.methods import nope

if __name__ == "__main__":
    experiment(nope)
