"""NTK trained at 64K with the alpha of the paper's tables 7 and 8.

python -m experiments.ntk_64k --preset=mini
python -m experiments.ntk_64k --preset=llama2_7b --base_dir=... --text_dir=... --alpha=57
"""

from longjax.cli import experiment
from longjax.methods import ntk_64k

if __name__ == "__main__":
    experiment(ntk_64k)
