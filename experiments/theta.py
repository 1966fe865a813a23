r"""A larger RoPE base frequency (ABF, ProLong). Trained.

python -m experiments.theta --preset=mini
python -m experiments.theta --preset=paper --base=500000 --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/theta --export_dir=runs/theta/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
--preset=prolong_64k and --preset=prolong_512k are ProLong's two stages (the second with --init_from, --init_opt_state).
"""

from longjax.cli.train import experiment
from longjax.methods import theta

if __name__ == "__main__":
    experiment(theta)
