r"""Position Interpolation: all RoPE frequencies divided by the extension factor. Trained.

python -m experiments.pi --preset=mini
python -m experiments.pi --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/pi --export_dir=runs/pi/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): PG19 perplexity 5.9, needle 42.1, many-shot 75.5,
LongBench 33.5, RULER 57.66.
"""

from longjax.cli.train import experiment
from longjax.methods import pi

if __name__ == "__main__":
    experiment(pi)
