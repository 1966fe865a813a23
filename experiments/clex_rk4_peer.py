"""CLEX with the released solver, step by step: an audit of `clex`.

python -m experiments.clex_rk4_peer --preset=mini
python -m experiments.clex_rk4_peer --preset=llama2_7b --base_dir=... --text_dir=... --max_factor=32
"""

from longjax.cli import experiment
from longjax.methods import clex_rk4_peer

if __name__ == "__main__":
    experiment(clex_rk4_peer)
