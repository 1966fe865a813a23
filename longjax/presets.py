"""All sizes of a study. What runs in miniature is what runs at 7B: only these numbers differ."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from longjax.attention import Softmax
from longjax.blockwise import Blockwise
from longjax.config import LLAMA2_7B, ModelConfig
from longjax.evals.manyshot import ManyShot
from longjax.evals.material import Material
from longjax.evals.needle import NeedleTest
from longjax.evals.passkey import PasskeyTest
from longjax.evals.perplexity import PerplexityTest
from longjax.evals.questions import Task
from longjax.evals.ruler import Ruler
from longjax.train import Recipe

Remat = Literal["full", "attention", "qkv", "qkv_up", "most", "gate_up", "dots", "offload", "none"]  # see launch.REMAT


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training, and how its rows are mixed: see recall.Mixture."""

    until: float = 1.0  # share of the steps
    passkey: float = 0.0
    repeat: float = 0.0
    long: float = 0.5
    filler: float = 0.3
    segment: int | None = None
    drills: float = 0.0


class Test(Protocol):
    """An evaluator with its settings."""

    def tasks(self, material: Material) -> list[Task]: ...


@dataclasses.dataclass(frozen=True)
class At:
    """A test at lengths of its own."""

    test: Test
    lengths: tuple[int, ...]

    def tasks(self, material: Material) -> list[Task]:
        return self.test.tasks(dataclasses.replace(material, lengths=self.lengths))


@dataclasses.dataclass(frozen=True)
class Variant:
    """An arm of a study beside its methods, which answers a single question.

    Attributes:
      method: by its name.
      settings: its parameters, where they are not the preset's.
      recipe: fields of the preset's recipe for extensions that differ.
      tables: positions in training; "ds_bf16": as DeepSpeed rounds them. Evaluations always have exact ones.
      tests: what it is put to; None: the preset's few.

    """

    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tables: Literal["float32", "ds_bf16"] = "float32"
    tests: tuple[str, ...] | None = None


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
      tests: what all methods are put to, by name.
      few: names of the tests of variants, and of last weights beside averaged ones.
      only: names of tests that one method alone is put to, by its name.
      tokens_a_call: of the evaluators.
      methods: those of the study.
      settings: a method's parameters at this size, where they are not its defaults.
      variants: further arms of the study, by name.
      seeds: so many studies, each with its own base, order of data and extensions; all get the same questions.
      drills: tokens of questions with their answers to train on, for base and extension; see drills.py.
      softmax: the attention back end; None: the fastest of the machine.
      remat: what the backward pass computes again instead of keeping it, see launch.REMAT.
      base_dir: a base that comes with us; None: there is none.
      workers: processes of a study that run methods side by side, on a CPU or on each GPU.

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
    tests: Mapping[str, Test]
    few: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    variants: Mapping[str, Variant] = dataclasses.field(default_factory=dict)
    seeds: int = 1
    drills: tuple[int, int] = (0, 0)
    characters: int = 8_000_000
    tokens_a_call: int = 16_384
    softmax: Softmax | None = None
    remat: Remat = "full"
    base_dir: str | None = None
    workers: int = 1


BASES = pathlib.Path(__file__).parent.parent / "bases"
FROZEN = (
    "base", "ntk_frozen", "dynamic_yarn", "lm_infinite", "streaming_llm", "sliding_window", "self_extend", "rerope",
    "leaky_rerope", "dca",
)  # fmt: skip
TRAINED = ("pi", "ntk_32k", "ntk_64k", "theta", "yarn", "clex", "longlora", "landmark")

KEYS = PasskeyTest("study")


def plain_tests(windows: int, samples: int) -> dict[str, Test]:
    """-> perplexity on held-out text, `windows` of the longest length; pass keys, `samples` of a length and depth."""
    return {
        "perplexity": PerplexityTest("nested", ppl_data="held_out", num_windows=windows),
        "passkey": dataclasses.replace(KEYS, passkey_samples=samples),
    }


SMALL = Recipe(schedule="cosine", decay_to=0.02, weight_decay=0.1, b2=0.95)  # what both trainings of MINI share

# 280 thousand parameters, context 128, extended to 1024. Recall is learned from dense rows first: short episodes,
# short repeats; then as it will be asked for.
MINI = Preset(
    model=ModelConfig(
        vocab=512, dim=64, layers=4, heads=2, kv_heads=2, ffn=192, rope_base=500.0, trained_len=128, dtype="float32"
    ),
    extended=1024,
    base=dataclasses.replace(SMALL, steps=5000, rows=32, learning_rate=3e-3, warmup=100, ema=0.99),
    extend=dataclasses.replace(SMALL, steps=160, rows=2, learning_rate=2e-3, warmup=10, ema=0.95),
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
    tests=plain_tests(8, 4),
    softmax=Blockwise(256, 256),
    remat="none",
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
    tests=plain_tests(2, 2),
)

# What the paper says: 1 B tokens in rows of 32K, 32 rows an update, EMA (arXiv:2409.12181, section 4, table 7).
PAPER = Preset(
    model=LLAMA2_7B,
    extended=32_768,
    base=None,
    extend=Recipe(),
    base_stages=(Stage(),),
    extend_stages=(Stage(),),
    lengths=(2048, 4096, 8192, 16_384, 32_768, 65_536),
    methods=(*FROZEN, *TRAINED),
    settings={},
    tests=plain_tests(16, 20),
    characters=4_000_000_000,
    tokens_a_call=65_536,
    remat="attention",
)


def changed(preset: Preset, extended: int, settings: dict[str, dict[str, Any]], **recipe: Any) -> Preset:
    """-> the preset at another length, with a recipe that differs in some fields."""
    lengths = tuple(2**n for n in range(11, max(extended, 32_768).bit_length() + 1))  # twice as long at the end
    extend = dataclasses.replace(preset.extend, **recipe)
    return dataclasses.replace(preset, extended=extended, lengths=lengths, settings=settings, extend=extend)


# What the released script of the paper runs: 256 rows an update, so 120 updates; DeepSpeed's schedule; no EMA.
LCEG_SCRIPT = changed(PAPER, 32_768, {}, steps=120, rows=256, schedule="ds_log_decay", ema=0.0)

# LongLoRA's README (arXiv:2309.12307): 64 rows, 1000 updates.
LONGLORA = changed(PAPER, 32_768, {}, steps=1000, rows=64, ema=0.0, from_zero=True)

# Landmark's script (arXiv:2305.16300): pieces of 512 tokens with a landmark after every 63.
LANDMARK = changed(
    PAPER, 32_768, {"landmark": {"piece": 512}},
    steps=15_000, rows=2, schedule="cosine", decay_to=0.0, warmup=450, weight_decay=0.1, ema=0.0, from_zero=True,
)  # fmt: skip

# CLEX's script (arXiv:2310.16450): trained at 4K on random factors, 512 rows, log warm-up then constant.
CLEX = changed(PAPER, 4096, {"clex": {"max_factor": 32}}, steps=480, rows=512, schedule="ds_log", warmup=15, ema=0.0)

# ProLong (arXiv:2410.02660): LLaMA-3 8B at 64K, then 512K with the first stage's moments. Rows keep documents apart.
PROLONG_64K = changed(
    PAPER, 65_536, {"theta": {"base": 8e6}},
    steps=5000, rows=64, learning_rate=1e-5, schedule="cosine", warmup=500, weight_decay=0.1, b2=0.95, ema=0.0,
)  # fmt: skip
PROLONG_512K = changed(
    PROLONG_64K, 524_288, {"theta": {"base": 1.28e8}}, steps=2500, rows=16, learning_rate=5e-6, warmup=250
)

# Phi-2 by the same recipe (context 2048, so twice the factors; the released code cannot run it).
PHI2 = changed(
    PAPER, 32_768,
    {"pi": {"factor": 16.0}, "yarn": {"factor": 16.0}, "longlora": {"factor": 16.0}, "ntk_64k": {"alpha": 497.0}},
)  # fmt: skip

PRESETS = {
    "mini": MINI, "quick": QUICK, "paper": PAPER, "lceg_script": LCEG_SCRIPT, "longlora": LONGLORA,
    "landmark": LANDMARK, "clex": CLEX, "prolong_64k": PROLONG_64K, "prolong_512k": PROLONG_512K, "phi2": PHI2,
}  # fmt: skip
