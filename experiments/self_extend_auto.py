"""Self-Extend with the smallest group that the length needs. Frozen.

python -m experiments.self_extend_auto --preset=mini
python -m experiments.self_extend_auto --preset=llama2_7b --base_dir=... --text_dir=... --window=1024
"""

from longjax.cli import experiment
from longjax.methods import self_extend_auto

if __name__ == "__main__":
    experiment(self_extend_auto)
