"""LM-Infinite: a local window and the first tokens, no distance beyond the window. Frozen.

python -m experiments.lm_infinite --preset=mini
python -m experiments.lm_infinite --preset=llama2_7b --base_dir=... --text_dir=... --first=10
"""

from longjax.cli import experiment
from longjax.methods import lm_infinite

if __name__ == "__main__":
    experiment(lm_infinite)
