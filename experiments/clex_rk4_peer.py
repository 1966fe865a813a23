r"""CLEX with the solver of the released code, step by step, to check `clex`. Trained.

python -m experiments.clex_rk4_peer --preset=mini
python -m experiments.clex_rk4_peer --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/clex_rk4_peer --export_dir=runs/clex_rk4_peer/hf

1 B tokens of a 7B at 32K are 6.5e19 operations: 46 H100-hours at 40 % of the peak.
--preset=clex trains as the authors do: at 4K, on random factors.
"""

from longjax.cli.train import experiment
from longjax.methods import clex_rk4_peer

if __name__ == "__main__":
    experiment(clex_rk4_peer)
