r"""StreamingLLM: a window of recent tokens and attention sinks.

python -m experiments.streaming_llm --preset=mini
python -m experiments.streaming_llm --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/books \
    --mesh_model=8 --run_dir=runs/streaming_llm

Nothing is trained.
"""

from longjax.cli.train import experiment
from longjax.methods import streaming_llm

if __name__ == "__main__":
    experiment(streaming_llm)
