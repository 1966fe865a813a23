r"""ReRoPE: tokens beyond a window all have the window's distance.

python -m experiments.rerope --preset=mini
python -m experiments.rerope --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/rerope

Nothing is trained.
"""

from longjax.cli.train import experiment
from longjax.methods import rerope

if __name__ == "__main__":
    experiment(rerope)
