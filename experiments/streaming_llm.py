"""StreamingLLM: a recent window and attention sinks. Frozen.

python -m experiments.streaming_llm --preset=mini
python -m experiments.streaming_llm --preset=llama2_7b --base_dir=... --text_dir=... --sinks=4
"""

from longjax.cli import experiment
from longjax.methods import streaming_llm

if __name__ == "__main__":
    experiment(streaming_llm)
