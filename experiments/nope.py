r"""No position encoding at all. For models that were trained without one.

python -m experiments.nope --preset=mini
python -m experiments.nope --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/nope --export_dir=runs/nope/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
"""

from longjax.cli.train import experiment
from longjax.methods import nope

if __name__ == "__main__":
    experiment(nope)
