r"""LongRoPE: a frequency factor per RoPE pair, from lists. Trained.

python -m experiments.longrope --preset=mini --long_factor=... --short_factor=...
python -m experiments.longrope --preset=paper --long_factor=... --short_factor=... --plan_dir=/data/32k \
    --base_dir=/models/Llama-2-7b-hf --mesh_fsdp=8 --run_dir=runs/longrope --export_dir=runs/longrope/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
"""

from longjax.cli.train import experiment
from longjax.methods import longrope

if __name__ == "__main__":
    experiment(longrope)
