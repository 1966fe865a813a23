r"""Self-Extend with a logarithmic map: distances in each octave grow half as fast as in the one before.

python -m experiments.self_extend_octaves --preset=mini --window=32
python -m experiments.self_extend_octaves --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/self_extend_octaves

Nothing is trained.
"""

from longjax.cli.train import experiment
from longjax.methods import self_extend_octaves

if __name__ == "__main__":
    experiment(self_extend_octaves)
