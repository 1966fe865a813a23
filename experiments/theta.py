"""Another base frequency (ABF, ProLong), trained.

python -m experiments.theta --preset=mini
python -m experiments.theta --preset=llama2_7b --base_dir=... --text_dir=... --base=500000
"""

from longjax.cli import experiment
from longjax.methods import theta

if __name__ == "__main__":
    experiment(theta)
