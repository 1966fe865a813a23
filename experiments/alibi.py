r"""ALiBi: no rotation, a bias that grows with the distance. For models that were trained with it.

python -m experiments.alibi --preset=mini
python -m experiments.alibi --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/alibi --export_dir=runs/alibi/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
"""

from longjax.cli.train import experiment
from longjax.methods import alibi

if __name__ == "__main__":
    experiment(alibi)
