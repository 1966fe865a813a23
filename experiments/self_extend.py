"""Self-Extend: far tokens at coarse distances. Frozen.

python -m experiments.self_extend --preset=mini
python -m experiments.self_extend --preset=llama2_7b --base_dir=... --text_dir=... --window=1024 --group=64
"""

from longjax.cli import experiment
from longjax.methods import self_extend

if __name__ == "__main__":
    experiment(self_extend)
