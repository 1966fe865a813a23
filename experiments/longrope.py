"""LongRoPE: one factor a pair, from lists.

python -m experiments.longrope --preset=mini
python -m experiments.longrope --preset=llama2_7b --base_dir=... --short_factor=short.json --long_factor=long.json
"""

from longjax.cli import experiment
from longjax.methods import longrope

if __name__ == "__main__":
    experiment(longrope)
