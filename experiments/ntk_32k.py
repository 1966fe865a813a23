"""Dynamic NTK trained at 32K (alpha 29 there; table 8 of the paper).

python -m experiments.ntk_32k --preset=mini
python -m experiments.ntk_32k --preset=llama2_7b --base_dir=... --text_dir=...
"""

from longjax.cli import experiment
from longjax.methods import ntk_32k

if __name__ == "__main__":
    experiment(ntk_32k)
