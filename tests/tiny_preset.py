"""The smallest preset that runs everything, `tiny`. As a program: an experiment, python tests/tiny_preset.py pi ..."""

import dataclasses
import pathlib
import sys

from longjax.attention.blockwise import Blockwise
from longjax.evals.passkey import PasskeyTest
from longjax.study.config import DataStage
from longjax.study.presets import PRESETS, QUICK
from longjax.training.recipe import Recipe

SETTINGS = {
    "pi": {"factor": 2.0}, "ntk_static": {"alpha": 3.0}, "ntk_32k": {"reach": 256}, "ntk_64k_code": {"reach": 256},
    "yarn": {"factor": 2.0}, "clex": {"max_factor": 4, "ode_steps": 16}, "clex_rk4_peer": {"max_factor": 4},
    "llama3": {"factor": 2.0}, "lm_infinite": {"window": 32, "first": 4},
    "longrope": {"long_factor": ",".join(["2"] * 16), "short_factor": ",".join(["1"] * 16)},
    "lm_infinite_topk": {"window": 32, "first": 4, "top_k": 2, "insert_at": 8, "from_layer": 1},
    "streaming_llm": {"sinks": 4, "recent": 28}, "sliding_window": {"window": 32},
    "self_extend": {"window": 32, "group": 4}, "self_extend_auto": {"window": 32},
    "self_extend_octaves": {"window": 32}, "rerope": {"window": 32}, "leaky_rerope": {"window": 32, "factor": 4.0},
    "landmark": {"block": 16, "top_k": 2, "row_length": 64},
    "longlora": {"factor": 2.0}, "longlora_sft": {"factor": 2.0, "group": 64},
}  # fmt: skip
PRESETS["tiny"] = dataclasses.replace(
    QUICK,
    base_dir=str(pathlib.Path(__file__).parent / "base"),  # smaller than the one that ships, so quicker
    extended=256,
    extend=Recipe(steps=3, batch_size=2, learning_rate=1e-3, warmup=1, schedule="cosine", ema_decay=0.5),
    lengths=(256,),
    tests={"perplexity": QUICK.tests["perplexity"], "passkey": PasskeyTest("study", 1, passkey_depths="0.5")},
    characters=1_500_000,
    attention=Blockwise(64, 64),
    settings=SETTINGS,
    extend_stages=(DataStage(passkey=0.5),),
    task_examples=(0, 0),
)

if __name__ == "__main__":
    from longjax.cli.train import experiment
    from longjax.methods import METHODS

    name = sys.argv.pop(1)
    experiment(METHODS[name])
