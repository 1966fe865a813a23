r"""YaRN without training, with a factor that follows the length.

python -m experiments.dynamic_yarn --preset=mini
python -m experiments.dynamic_yarn --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/dynamic_yarn

Nothing is trained.
"""

from longjax.cli.train import experiment
from longjax.methods import dynamic_yarn

if __name__ == "__main__":
    experiment(dynamic_yarn)
