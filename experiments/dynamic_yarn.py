"""YaRN without training, its factor following the length.

python -m experiments.dynamic_yarn --preset=mini
python -m experiments.dynamic_yarn --preset=llama2_7b --base_dir=... --text_dir=...
"""

from longjax.cli import experiment
from longjax.methods import dynamic_yarn

if __name__ == "__main__":
    experiment(dynamic_yarn)
