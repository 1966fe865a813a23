"""Llama 3.1's scaling of the frequencies, trained.

python -m experiments.llama3 --preset=mini
python -m experiments.llama3 --preset=llama2_7b --base_dir=... --text_dir=... --factor=8
"""

from longjax.cli import experiment
from longjax.methods import llama3

if __name__ == "__main__":
    experiment(llama3)
