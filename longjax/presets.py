"""All sizes of a study. What runs in miniature is what runs at 7B: only these numbers differ."""

import dataclasses
import pathlib
from typing import Any

from longjax.attention import Softmax
from longjax.blockwise import Blockwise
from longjax.config import LLAMA2_7B, ModelConfig
from longjax.train import Recipe


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training, and how its rows are mixed: see recall.Mixture."""

    until: float = 1.0  # share of the steps
    passkey: float = 0.0
    repeat: float = 0.0
    long: float = 0.5
    filler: float = 0.3
    segment: int | None = None


@dataclasses.dataclass(frozen=True)
class Preset:
    """One study.

    Attributes:
      model: the base; its trained_len is the short context. With --base_dir that model takes its place.
      extended: the length that methods are trained at.
      base: how the base is pretrained; None: it comes from --base_dir.
      extend: the one recipe for all methods.
      base_stages, extend_stages: the rows of the two trainings.
      characters: of text, at most.
      lengths: to evaluate at; the last is beyond the extension.
      windows: of the longest length, for perplexity.
      samples: passkey prompts a cell; `depths` of the key.
      tokens_a_call: of the evaluators.
      methods: those of the study.
      settings: a method's parameters at this size, where they are not its defaults.
      remat: whether the backward pass computes the layers again, to save memory.
      base_dir: a base that comes with us; None: there is none.
      workers: processes of a study that run methods side by side, each on its share of the cores.

    """

    model: ModelConfig
    extended: int
    base: Recipe | None
    extend: Recipe
    base_stages: tuple[Stage, ...]
    extend_stages: tuple[Stage, ...]
    lengths: tuple[int, ...]
    methods: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    characters: int = 8_000_000
    windows: int = 16
    samples: int = 20
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    tokens_a_call: int = 16_384
    softmax: Softmax = Blockwise()
    remat: bool = True
    base_dir: str | None = None
    workers: int = 1


BASES = pathlib.Path(__file__).parent.parent / "bases"
FROZEN = (
    "base", "ntk_frozen", "dynamic_yarn", "lm_infinite", "streaming_llm", "sliding_window", "self_extend", "rerope",
    "leaky_rerope", "dca",
)  # fmt: skip
TRAINED = ("pi", "ntk_32k", "ntk_64k", "theta", "yarn", "clex", "longlora", "landmark")

# 280 thousand parameters, context 128, extended to 1024. Recall is learned from dense rows first: short episodes,
# short repeats; then as it will be asked for.
MINI = Preset(
    model=ModelConfig(
        vocab=512, dim=64, layers=4, heads=2, kv_heads=2, ffn=192, rope_base=500.0, trained_len=128, dtype="float32"
    ),
    extended=1024,
    base=Recipe(
        steps=5000, rows=32, learning_rate=3e-3, warmup=100, decay_to=0.02, weight_decay=0.1, b2=0.95, ema=0.99
    ),
    extend=Recipe(steps=160, rows=2, learning_rate=2e-3, warmup=10, decay_to=0.02, weight_decay=0.1, b2=0.95, ema=0.95),
    base_stages=(Stage(0.15, 0.55, 0.3, 0.0, 0.1, 24), Stage(1.0, 0.45, 0.05)),
    extend_stages=(Stage(passkey=0.5),),
    lengths=(128, 256, 512, 1024, 2048),
    methods=(*FROZEN, *TRAINED),
    settings={
        "ntk_32k": {"reach": 1024},
        "theta": {"base": 25_000.0},
        "yarn": {"beta_fast": 8.0},
        "clex": {"max_factor": 16},
        "landmark": {"block": 16, "top_k": 4, "piece": 128},
        "self_extend": {"window": 32, "group": 16},
        "rerope": {"window": 64},
        "leaky_rerope": {"window": 64, "factor": 16.0},
    },
    windows=8,
    samples=4,
    softmax=Blockwise(256, 256),
    remat=False,
    base_dir=str(BASES / "mini"),
    workers=2,
)

# The same, too short to learn much: shows that everything works.
QUICK = dataclasses.replace(
    MINI,
    base=dataclasses.replace(MINI.base or Recipe(), steps=60, rows=8),
    extend=dataclasses.replace(MINI.extend, steps=8),
    characters=2_500_000,
    lengths=(128, 1024, 2048),
    methods=("base", "self_extend", "pi", "longlora", "landmark"),
    windows=2,
    samples=2,
)

LLAMA2 = Preset(
    model=LLAMA2_7B,
    extended=32_768,
    base=None,
    extend=Recipe(),
    base_stages=(Stage(),),
    extend_stages=(Stage(),),
    lengths=(2048, 4096, 8192, 16_384, 32_768, 65_536),
    methods=(*FROZEN, *TRAINED),
    settings={},
    characters=4_000_000_000,
    tokens_a_call=65_536,
)

PRESETS = {"mini": MINI, "quick": QUICK, "llama2_7b": LLAMA2}
