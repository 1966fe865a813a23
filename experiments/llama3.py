r"""Llama 3.1's scaling of the RoPE frequencies. Trained.

python -m experiments.llama3 --preset=mini
python -m experiments.llama3 --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/llama3 --export_dir=runs/llama3/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
"""

from longjax.cli.train import experiment
from longjax.methods import llama3

if __name__ == "__main__":
    experiment(llama3)
