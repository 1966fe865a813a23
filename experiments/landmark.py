r"""Landmark attention: trained on short rows; at inference queries attend to the best blocks of a long cache.

python -m experiments.landmark --preset=mini
python -m experiments.landmark --preset=paper --base_dir=/models/Llama-2-7b-hf --plan_dir=/data/32k \
    --mesh_fsdp=8 --run_dir=runs/landmark --export_dir=runs/landmark/hf

In rows of 512 tokens 1 B tokens of a 7B are 4.0e19 operations: 28 H100-hours at 40 % of the peak.
--preset=landmark has the authors' schedule.
Published for LLaMA-2 7B at 32K (arXiv:2409.12181, tables 1 and 4): LongBench 28.19, RULER 13.56.
"""

from longjax.cli.train import experiment
from longjax.methods import landmark

if __name__ == "__main__":
    experiment(landmark)
