"""Landmark attention: trained on short pieces, opens the best blocks of a long memory.

python -m experiments.landmark --preset=mini
python -m experiments.landmark --preset=llama2_7b --base_dir=... --text_dir=... --block=64 --top_k=5
"""

from longjax.cli import experiment
from longjax.methods import landmark

if __name__ == "__main__":
    experiment(landmark)
