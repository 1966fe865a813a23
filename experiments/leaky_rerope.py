"""Leaky ReRoPE: far distances squeezed by a factor. Frozen.

python -m experiments.leaky_rerope --preset=mini
python -m experiments.leaky_rerope --preset=llama2_7b --base_dir=... --text_dir=... --window=1024 --factor=8
"""

from longjax.cli import experiment
from longjax.methods import leaky_rerope

if __name__ == "__main__":
    experiment(leaky_rerope)
