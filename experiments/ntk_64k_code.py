"""NTK trained at 64K with the alpha that the released code computes, 121.

python -m experiments.ntk_64k_code --preset=mini
python -m experiments.ntk_64k_code --preset=llama2_7b --base_dir=... --text_dir=...
"""

from longjax.cli import experiment
from longjax.methods import ntk_64k_code

if __name__ == "__main__":
    experiment(ntk_64k_code)
