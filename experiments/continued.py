r"""The base model trained on, with nothing changed: the control of every trained method.

python -m experiments.continued --preset=mini
python -m experiments.continued --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --length=4096 --batch_size=256 --mesh_fsdp=8 --run_dir=runs/continued

What a trained method gains beyond this arm is extension; the rest is the domain of the text.
Published: nothing; it stands beside the arms of arXiv:2409.12181.
"""

from longjax.cli.train import experiment
from longjax.methods import continued

if __name__ == "__main__":
    experiment(continued)
