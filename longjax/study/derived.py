"""A study that follows from a checkpoint, a target and a budget: every parameter by a rule, and the rule in words."""

import dataclasses
import itertools
import math
from typing import Any

from longjax.config import ModelConfig
from longjax.evals.needle import NeedleTest
from longjax.evals.passkey import PasskeyTest
from longjax.evals.perplexity import PerplexityTest
from longjax.evals.ruler.tasks import Ruler
from longjax.ranges import POSITIVE, check_range
from longjax.study.config import AtLengths, DataStage, StudyConfig, Test, Variant
from longjax.study.paper_presets import FROZEN, PAPER, TRAINED
from longjax.training.flops import parameter_count
from longjax.training.recipe import Recipe

PAPER_SIZE, PAPER_RATE = 6.74e9, 2e-5  # parameters and learning rate of arXiv:2409.12181
RATE_EXPONENT = 0.59  # through that point and 2e-4 at 135 M, measured on SmolLM2
ABF_EXPONENT = math.log(50) / math.log(8)  # of Xiong et al., arXiv:2309.16039: 10,000 to 500,000 for 8 times the length
HIGHEST_RATE = 1e-3  # of our miniature of 1.1 M
UPDATES = 100  # at least, as far as the tokens go
ON_CONTROL = ("ntk_frozen", "self_extend", "rerope")  # frozen methods that are also put on the control's weights
CONTROL = "control"
LEAST_CHARACTERS = 8_000_000  # of text, so that enough of it is held out
LEAST_PROMPT = 1024  # tokens that RULER's and the sentence's prompts need


@dataclasses.dataclass(frozen=True)
class Goal:
    """What the model of --base_dir is to be extended to, and what that may cost."""

    extended: int | None = None  # tokens that the model of --base_dir is extended to; None: the lengths of --preset
    tokens: float = 13e6  # tokens that each arm is trained on, with --extended
    samples: int = 16  # questions of a test, task and length, with --extended
    ruler_tasks: str = "all"  # with --extended, RULER's tasks that are asked, joined by commas: those the base can do
    ruler_samples: int | None = None  # questions of each of them and length; None: as --samples
    hours: float | None = None  # fewer --samples, so that the study takes at most so long; None: no limit

    def __post_init__(self):
        check_range(self, ("extended", "samples", "ruler_samples"), 1, 2**31)
        check_range(self, ("tokens", "hours"), POSITIVE)

    def ruler(self, samples: int) -> Ruler:
        """Returns RULER's test, with `samples` questions unless --ruler_samples says otherwise."""
        return Ruler(ruler_tasks=self.ruler_tasks, ruler_samples=self.ruler_samples or samples)


def derived_config(
    cfg: ModelConfig, extended: int, tokens: float, samples: int, ruler: Ruler | None = None
) -> StudyConfig:
    """Returns the study that extends a model.

    Args:
      cfg: of the model; its trained_len is what it is extended from.
      extended: length that it is extended to, in tokens.
      tokens: that each arm is trained on.
      samples: questions of a test, task and length.
      ruler: RULER's test; None: all tasks with `samples` questions.

    Raises:
      ValueError: the model reads that much already, or the tokens do not suffice for one row.

    """
    if extended <= cfg.trained_len:
        raise ValueError(f"--extended={extended} must be above the {cfg.trained_len} tokens of --base_dir")
    if tokens < extended:
        raise ValueError(f"--tokens={tokens:g} must be at least one row of --extended={extended} tokens")
    extend, asked = recipe(cfg, extended, tokens), tests(cfg, extended, samples, ruler or Ruler(ruler_samples=samples))
    return dataclasses.replace(
        PAPER, model=cfg, extended=extended, extend=extend, extend_stages=(DataStage(),), tests=asked,
        lengths=lengths(cfg.trained_len, extended), methods=(*FROZEN, *TRAINED), settings=settings(cfg, extended),
        characters=max(round(8 * tokens), LEAST_CHARACTERS), further=True,
        variants=control_arms(cfg, extend, extended, tuple(asked)),
    )  # fmt: skip


def lengths(trained: int, extended: int) -> tuple[int, ...]:
    """Returns the lengths of the tests: from a quarter of the trained length, doubling, to twice the extended one."""
    shortest = trained // 4 if trained >= 4 * LEAST_PROMPT else trained
    doubled = (shortest << n for n in range(32))
    return tuple(sorted({*itertools.takewhile(lambda n: n < 2 * extended, doubled), extended, 2 * extended}))


def recipe(cfg: ModelConfig, extended: int, tokens: float) -> Recipe:
    """Returns the recipe of all trainings. See `study_plan.parameters` for the rules."""
    rows = max(1, min(32, int(tokens / (UPDATES * extended))))
    steps = max(1, round(tokens / (rows * extended)))
    rate = learning_rate(parameter_count(cfg))
    return Recipe(
        steps=steps, batch_size=rows, learning_rate=rate, frequency_rate=min(1.0, PAPER_RATE / rate),
        warmup=max(1, min(20, steps // 20)), b2=0.999 if steps >= 500 else 0.95,
        ema_decay=round(min(0.99, max(0.0, 1 - 10 / steps)), 4),
    )  # fmt: skip


def learning_rate(size: float) -> float:
    """Returns the learning rate for a model of `size` parameters, with two digits."""
    return float(f"{min(PAPER_RATE * (PAPER_SIZE / size) ** RATE_EXPONENT, HIGHEST_RATE):.2g}")


def settings(cfg: ModelConfig, extended: int) -> dict[str, dict[str, Any]]:
    """Returns the parameters of methods, by name, where they depend on the lengths."""
    trained, longest = cfg.trained_len, 2 * extended
    factor, window = extended / trained, trained // 4
    squeeze = smallest_squeeze(window, longest, trained)
    return {
        "pi": {"factor": factor}, "yarn": {"factor": factor}, "longlora": {"factor": factor},
        "ntk_32k": {"reach": extended}, "ntk_64k": {"alpha": ntk_alpha(factor, factor)},
        "theta": {"base": float(f"{cfg.rope_base * factor**ABF_EXPONENT:.2g}")},
        "clex": {"max_factor": 2 ** math.ceil(math.log2(longest / trained))},
        "landmark": {"row_length": min(512, trained)} | ({} if trained >= 512 else {"block": 16, "top_k": 4}),
        "sliding_window": {"window": trained},
        "self_extend": {"window": window, "group": squeeze}, "rerope": {"window": window},
        "leaky_rerope": {"window": window, "factor": float(squeeze)},
    }  # fmt: skip


def smallest_squeeze(window: int, longest: int, trained: int) -> int:
    """Returns the smallest power of two by which distances beyond the window must be divided to stay trained ones."""
    squeeze = 2
    while (longest - 1) // squeeze + window - window // squeeze >= trained and squeeze < window:
        squeeze *= 2
    return squeeze


def tests(cfg: ModelConfig, extended: int, samples: int, ruler: Ruler) -> dict[str, Test]:
    """Returns the tests of all arms; those whose prompts do not fit into the model's own context are left out."""
    short = cfg.trained_len // 4
    fitting: dict[str, Test] = {
        "perplexity": PerplexityTest("nested", ppl_data="held_out", num_windows=8),
        "passkey": PasskeyTest("study", max(1, samples // 4), passkey_depths="0,0.33,0.67,1"),
        "needle_number": NeedleTest("number", needle_depths=samples, needle_buffer=min(200, short + short // 2)),
    }
    if short < LEAST_PROMPT:
        return fitting
    asked = tuple(n for n in lengths(cfg.trained_len, extended) if n <= extended)
    return fitting | {
        "needle": NeedleTest(needle_depths=max(2, samples // 2)),
        "ruler": AtLengths(ruler, asked),
    }


def control_arms(cfg: ModelConfig, recipe: Recipe, extended: int, names: tuple[str, ...]) -> dict[str, Variant]:
    """Returns the base trained on the same tokens at its own length, and frozen methods on its weights.

    `names` are their tests. Without them, what the text's domain is worth would count as a gain of extension.
    """
    rows = max(1, round(recipe.batch_size * extended / cfg.trained_len))
    control = Variant("continued", recipe={"batch_size": rows}, tests=names, length=cfg.trained_len)
    return {CONTROL: control} | {f"{name}_on_control": Variant(name, tests=names, on=CONTROL) for name in ON_CONTROL}


def ntk_alpha(scale: float, factor: float) -> float:
    """Returns NTK's alpha at `factor` times the trained length (equation 9 of arXiv:2409.12181, dynamic)."""
    return scale * factor - (scale - 1)
