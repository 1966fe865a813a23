"""ReRoPE: all far tokens at one distance. Frozen.

python -m experiments.rerope --preset=mini
python -m experiments.rerope --preset=llama2_7b --base_dir=... --text_dir=... --window=1024
"""

from longjax.cli import experiment
from longjax.methods import rerope

if __name__ == "__main__":
    experiment(rerope)
