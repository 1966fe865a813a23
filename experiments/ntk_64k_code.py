r"""NTK trained at 64K with the alpha that the released code computes, 121.

python -m experiments.ntk_64k_code --preset=mini
python -m experiments.ntk_64k_code --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/ntk_64k_code --export_dir=runs/ntk_64k_code/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
"""

from longjax.cli.train import experiment
from longjax.methods import ntk_64k_code

if __name__ == "__main__":
    experiment(ntk_64k_code)
