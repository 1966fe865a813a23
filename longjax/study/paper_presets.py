"""The trainings of arXiv:2409.12181 and of the papers whose methods it compares, at their own sizes."""

import dataclasses
from typing import Any

from longjax.config import LLAMA2_7B
from longjax.evals.passkey import PasskeyTest
from longjax.evals.perplexity import PerplexityTest
from longjax.study.config import DataStage, StudyConfig, Test
from longjax.training.recipe import Recipe

FROZEN = (
    "base", "ntk_frozen", "dynamic_yarn", "lm_infinite", "streaming_llm", "sliding_window", "self_extend", "rerope",
    "leaky_rerope", "dca",
)  # fmt: skip
TRAINED = ("pi", "ntk_32k", "ntk_64k", "theta", "yarn", "clex", "longlora", "landmark")


def perplexity_and_passkey(windows: int, samples: int) -> dict[str, Test]:
    """Returns the tests that need no benchmark files.

    Args:
      windows: windows of the longest length that perplexity is measured on, in held-out text.
      samples: pass-key prompts per length and depth.

    """
    return {
        "perplexity": PerplexityTest("nested", ppl_data="held_out", num_windows=windows),
        "passkey": PasskeyTest("study", samples),
    }


# The paper's protocol: 1 B tokens in rows of 32K, 32 rows an update, EMA (arXiv:2409.12181, section 4, table 7).
PAPER = StudyConfig(
    model=LLAMA2_7B,
    extended=32_768,
    base=None,
    extend=Recipe(),
    base_stages=(DataStage(),),
    extend_stages=(DataStage(),),
    lengths=(2048, 4096, 8192, 16_384, 32_768, 65_536),
    methods=(*FROZEN, *TRAINED),
    settings={},
    tests=perplexity_and_passkey(16, 20),
    characters=4_000_000_000,
    batch_tokens=65_536,
    remat="attention",
)


def at_length(preset: StudyConfig, extended: int, settings: dict[str, dict[str, Any]], **recipe: Any) -> StudyConfig:
    """Returns a preset with rows of another length, methods' settings for it, and some of the recipe replaced."""
    lengths = tuple(2**n for n in range(11, max(extended, 32_768).bit_length() + 1))  # twice as long at the end
    extend = dataclasses.replace(preset.extend, **recipe)
    return dataclasses.replace(preset, extended=extended, lengths=lengths, settings=settings, extend=extend)


# The paper's released script: 256 rows an update, so 120 updates; DeepSpeed's schedule; no EMA.
LCEG_SCRIPT = at_length(
    PAPER, 32_768, {}, steps=120, batch_size=256, schedule="ds_log_decay", ema_decay=0.0, joint_clip=True
)

# LongLoRA's README (arXiv:2309.12307): 64 rows, 1000 updates.
LONGLORA = at_length(PAPER, 32_768, {}, steps=1000, batch_size=64, ema_decay=0.0, warmup_from_zero=True)

# Landmark's script (arXiv:2305.16300): rows of 512 tokens with a landmark after every 63.
LANDMARK = at_length(
    PAPER, 32_768, {"landmark": {"row_length": 512}},
    steps=15_000, batch_size=2, schedule="cosine", min_lr_ratio=0.0, warmup=450, weight_decay=0.1, ema_decay=0.0,
    warmup_from_zero=True,
)  # fmt: skip

# CLEX's script (arXiv:2310.16450): trained at 4K on random factors, 512 rows, log warm-up then constant.
CLEX = at_length(
    PAPER, 4096, {"clex": {"max_factor": 32}},
    steps=480, batch_size=512, schedule="ds_log", warmup=15, ema_decay=0.0, joint_clip=True,
)  # fmt: skip

# ProLong (arXiv:2410.02660): LLaMA-3 8B at 64K, then 512K with the first stage's moments. Rows keep documents apart.
PROLONG_64K = at_length(
    PAPER, 65_536, {"theta": {"base": 8e6}},
    steps=5000, batch_size=64, learning_rate=1e-5, schedule="cosine", warmup=500, weight_decay=0.1, b2=0.95,
    ema_decay=0.0,
)  # fmt: skip
PROLONG_512K = at_length(
    PROLONG_64K, 524_288, {"theta": {"base": 1.28e8}}, steps=2500, batch_size=16, learning_rate=5e-6, warmup=250
)

# Phi-2 by the same recipe (context 2048, so twice the factors; the released code cannot run it).
PHI2 = at_length(
    PAPER, 32_768,
    {"pi": {"factor": 16.0}, "yarn": {"factor": 16.0}, "longlora": {"factor": 16.0}, "ntk_64k": {"alpha": 497.0}},
)  # fmt: skip
