r"""NTK-aware scaling with one alpha (equation 9 of the paper). Trained.

python -m experiments.ntk_static --preset=mini
python -m experiments.ntk_static --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/ntk_static --export_dir=runs/ntk_static/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
"""

from longjax.cli.train import experiment
from longjax.methods import ntk_static

if __name__ == "__main__":
    experiment(ntk_static)
