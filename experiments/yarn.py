"""YaRN: slow pairs interpolated, fast pairs kept, a softer softmax; trained.

python -m experiments.yarn --preset=mini
python -m experiments.yarn --preset=llama2_7b --base_dir=... --text_dir=... --factor=8
"""

from longjax.cli import experiment
from longjax.methods import yarn

if __name__ == "__main__":
    experiment(yarn)
