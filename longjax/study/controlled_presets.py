"""The controlled study, every method on one base by one recipe, at the sizes of two cores and of two GPUs."""

import dataclasses
import pathlib

from longjax.attention.blockwise import Blockwise
from longjax.config import ModelConfig
from longjax.evals.manyshot import ManyShot
from longjax.evals.needle import NeedleTest
from longjax.evals.passkey import PasskeyTest
from longjax.evals.perplexity import PerplexityTest
from longjax.evals.ruler.tasks import Ruler
from longjax.study.config import AtLengths, DataStage, StudyConfig, Variant
from longjax.study.paper_presets import FROZEN, TRAINED
from longjax.training.recipe import Recipe

BASES = pathlib.Path(__file__).parents[1] / "bases"

SMALL = Recipe(schedule="cosine", min_lr_ratio=0.02, weight_decay=0.1, b2=0.95)  # shared by both trainings of MINI

# 1.1 million parameters, context 256, extended to 2048. The base learns recall from dense rows first (short episodes,
# short repeats), then from rows like the tests' prompts. The base that ships was trained on six times these tokens:
# 12,000 steps of 64 rows.
MINI = StudyConfig(
    model=ModelConfig(
        vocab=2048, dim=128, layers=3, heads=2, kv_heads=2, ffn=352, rope_base=1000.0, trained_len=256, dtype="float32"
    ),
    extended=2048,
    base=dataclasses.replace(SMALL, steps=4000, batch_size=32, learning_rate=3e-3, warmup=200, ema_decay=0.99),
    extend=dataclasses.replace(
        SMALL, steps=48, batch_size=1, learning_rate=1e-3, warmup=5, ema_decay=0.9, frequency_rate=0.05
    ),
    base_stages=(DataStage(0.25, 0.5, 0.3, 0.0, 0.1, 24, 0.2), DataStage(1.0, 0.2, 0.05, task_examples=0.3)),
    extend_stages=(DataStage(passkey=0.3, task_examples=0.3),),
    lengths=(256, 1024, 2048, 4096),
    methods=(*FROZEN, *TRAINED),
    settings={
        "ntk_32k": {"reach": 2048},
        "theta": {"base": 50_000.0},
        "yarn": {"beta_fast": 8.0},
        "clex": {"max_factor": 16},
        "landmark": {"block": 16, "top_k": 4, "row_length": 256},
        "self_extend": {"window": 64, "group": 16},
        "rerope": {"window": 128},
        "leaky_rerope": {"window": 128, "factor": 16.0},
    },
    tests={  # eight requests per length, or more, so that the tests share compiled programs
        "perplexity": PerplexityTest("nested", ppl_data="held_out", num_windows=6),
        "passkey": PasskeyTest("study", 2, passkey_depths="0,0.33,0.67,1"),
        "needle_number": NeedleTest("number", needle_depths=8, needle_buffer=112),
    },
    task_examples=(2_000_000, 100_000),
    task_example_tasks=("needle", "number"),  # the others do not fit into 256 tokens
    batch_tokens=8192,
    attention=Blockwise(256, 256),
    remat="none",
    base_dir=str(BASES / "mini"),
    workers=2,
)

# MINI with trainings too short to learn much: exercises every step of a study.
QUICK = dataclasses.replace(
    MINI,
    base=dataclasses.replace(MINI.base or Recipe(), steps=60, batch_size=8),
    extend=dataclasses.replace(MINI.extend, steps=8),
    characters=2_500_000,
    task_examples=(50_000, 50_000),
    lengths=(256, 2048, 4096),
    methods=("base", "self_extend", "pi", "longlora", "landmark"),
    tests={
        "perplexity": PerplexityTest("nested", ppl_data="held_out", num_windows=2),
        "passkey": PasskeyTest("study", 1, passkey_depths="0,0.33,0.67,1"),
        "needle_number": NeedleTest("number", needle_depths=4, needle_buffer=112),
    },
)

LONG = (2048, 4096, 8192, 16_384, 32_768)
GRID = {  # Self-Extend's two parameters; the study's own arm has window 512 and group 16
    f"self_extend_w{window}_g{group}": Variant("self_extend", {"window": window, "group": group})
    for window in (256, 512, 1024)
    for group in (8, 16, 32, 64)
    if (window, group) != (512, 16)
}
MAPS = {name: Variant(name) for name in ("self_extend_octaves", "leaky_rerope")}
TABLES = {  # trained with the collapsed positions of the paper's pipeline, evaluated with exact ones, as there
    f"{name}_ds_bf16": Variant(name, tables="ds_bf16", tests=("perplexity", "passkey", "needle_number", "ruler"))
    for name in ("pi", "yarn", "ntk_32k", "longlora")
}
LARGER = {  # the same tokens in fewer, larger updates
    f"{name}_batch32": Variant(name, recipe={"batch_size": 32, "steps": 25, "warmup": 1, "ema_decay": 0.85})
    for name in ("pi", "yarn")
}
HELD_OUT = PerplexityTest("nested", ppl_data="held_out", num_windows=8)

# The study at a size that takes two H200 half an hour: 110 million parameters, context 2048, extended to 16384. Width
# ratios and extension factors are the paper's. The two seeds differ in base, order of rows and trainings. Most tests
# have 8 or 16 requests per length, so that few shapes are compiled.
H200_100M = StudyConfig(
    model=ModelConfig(vocab=4096, dim=1024, layers=8, heads=8, kv_heads=8, ffn=2816, trained_len=2048),
    extended=16_384,
    base=Recipe(
        steps=2200,
        batch_size=32,
        learning_rate=8e-4,
        schedule="cosine",
        warmup=100,
        weight_decay=0.1,
        b2=0.95,
        ema_decay=0.99,
    ),
    # A learned frequency depends on the head width alone, which is the paper's, so it has the paper's learning rate.
    extend=Recipe(
        steps=200,
        batch_size=4,
        micro_batch_size=4,
        learning_rate=3e-4,
        frequency_rate=2e-5 / 3e-4,
        warmup=10,
        b2=0.95,
        ema_decay=0.98,
    ),
    base_stages=(DataStage(0.2, 0.25, 0.35, 0.0, 0.1, 64, 0.3), DataStage(1.0, 0.05, 0.1, task_examples=0.35)),
    extend_stages=(DataStage(passkey=0.05, task_examples=0.35),),
    lengths=LONG,
    methods=(
        "base",
        "ntk_frozen",
        "lm_infinite",
        "streaming_llm",
        "self_extend",
        "rerope",
        "dca",
        "landmark",
        "clex",
        "longlora",
        "pi",
        "ntk_32k",
        "ntk_64k",
        "theta",
        "yarn",
    ),
    settings={
        "ntk_32k": {"reach": 16_384},
        "clex": {"max_factor": 16},  # twice the extension, as long as the longest test
        "self_extend": {"window": 512, "group": 16},
        "self_extend_octaves": {"window": 512},
        "rerope": {"window": 512},
        "leaky_rerope": {"window": 512, "factor": 16.0},
    },
    tests={
        "perplexity": AtLengths(HELD_OUT, (1024, *LONG)),
        "perplexity_lceg": AtLengths(PerplexityTest("lceg", ppl_data="held_out", num_windows=8), (2048, 16_384)),
        "perplexity_landmark": AtLengths(
            PerplexityTest("landmark_lceg", ppl_data="held_out", num_windows=8), (2048, 16_384)
        ),
        "passkey": PasskeyTest("study", 4, passkey_depths="0,0.33,0.67,1"),
        "needle_number": NeedleTest("number", needle_depths=16),
        "needle": NeedleTest(needle_depths=8),
        "ruler": AtLengths(Ruler(ruler_samples=8), (2048, 4096, 8192, 16_384)),
        "manyshot": AtLengths(ManyShot("10,60,140,290,590"), (32_768,), max_examples=8),
        "ruler_32k": AtLengths(Ruler(ruler_samples=4), (32_768,)),
        "needle_lceg": AtLengths(NeedleTest(needle_depths=8, needle_bos="lceg"), (2048, 8192, 16_384)),
    },
    raw_weight_tests=("perplexity", "passkey", "needle_number"),
    method_tests={"landmark": ("perplexity_landmark",)},
    variants=TABLES | LARGER | MAPS | GRID,
    seeds=2,
    task_examples=(20_000_000, 6_000_000),
    characters=250_000_000,
    batch_tokens=131_072,
    remat="qkv",
    workers=6,
)
