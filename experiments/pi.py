"""Position Interpolation: all frequencies divided by the factor, then trained.

python -m experiments.pi --preset=mini
python -m experiments.pi --preset=llama2_7b --base_dir=... --text_dir=... --factor=8
"""

from longjax.cli import experiment
from longjax.methods import pi

if __name__ == "__main__":
    experiment(pi)
