"""A sliding window and nothing else: LM-Infinite's ablation. Frozen.

python -m experiments.sliding_window --preset=mini
python -m experiments.sliding_window --preset=llama2_7b --base_dir=... --text_dir=...
"""

from longjax.cli import experiment
from longjax.methods import sliding_window

if __name__ == "__main__":
    experiment(sliding_window)
