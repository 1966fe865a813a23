"""The plan of a derived study: every parameter with its reason, and what each arm costs on this device."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from longjax.evals.ruler.tasks import Ruler
from longjax.methods.method import category
from longjax.study.arms import Arm
from longjax.study.config import AtLengths, StudyConfig
from longjax.study.derived import CONTROL, LEAST_PROMPT, ntk_alpha
from longjax.study.devices import Device
from longjax.training.flops import parameter_count, train_flops

TRAINING, EVALUATION = 0.5, 0.35  # of the rate of square products, in our measurements of 0.1 to 7 B on an H200
DECODE_STEP = 0.012  # seconds of a generated token of a batch, at least
ANSWER = {"needle": 100, "ruler": 60}  # tokens of an answer, about


class ArmCost(NamedTuple):
    """Estimated cost of an arm on one device.

    Attributes:
      arm: name.
      kind: category of its method.
      training: seconds.
      evaluation: seconds.

    """

    arm: str
    kind: str
    training: float
    evaluation: float


class Parameter(NamedTuple):
    """A parameter of a study, and why it has this value."""

    name: str
    value: str
    reason: str


def parameters(study: StudyConfig) -> list[Parameter]:
    """Returns the derived parameters of a study with their rules, in the order of reading."""
    cfg, extend, own = study.model, study.extend, study.settings
    factor, size = study.extended / cfg.trained_len, parameter_count(cfg)
    tokens = extend.steps * extend.batch_size * study.extended
    window, group = own["self_extend"]["window"], own["self_extend"]["group"]
    control = study.variants[CONTROL].recipe["batch_size"]
    farthest = (2 * study.extended - 1) // group + window - window // group
    return [
        Parameter("factor of PI, YaRN, LongLoRA", f"{factor:g}", f"{study.extended} / {cfg.trained_len} tokens"),
        Parameter("alpha of NTK-32K", f"{ntk_alpha(factor / 2, factor):g}", "s f - (s - 1), s = f / 2 (2409.12181)"),
        Parameter("alpha of NTK-64K", f"{own['ntk_64k']['alpha']:g}", "s f - (s - 1), s = f (2409.12181)"),
        Parameter("base of theta", f"{own['theta']['base']:g}", f"{cfg.rope_base:g} f^1.88 (ABF, 2309.16039)"),
        Parameter("largest factor of CLEX", str(own["clex"]["max_factor"]), "as long as the longest test"),
        Parameter("window and group of Self-Extend", f"{window}, {group}", f"the longest test ends at {farthest}"),
        Parameter("window of ReRoPE", str(own["rerope"]["window"]), "a quarter of the trained length"),
        Parameter("window of LM-Infinite, StreamingLLM", str(cfg.trained_len), "the trained length"),
        Parameter("rows of Landmark", str(own["landmark"]["row_length"]), "as published (2305.16300)"),
        Parameter("learning rate", f"{extend.learning_rate:g}", f"2e-5 (6.74e9 / {size:.3g})^0.59, by 7B and 135M"),
        Parameter("updates, rows", f"{extend.steps}, {extend.batch_size}", f"{tokens:.3g} tokens, 100 updates or more"),
        Parameter("warm-up", f"{extend.warmup} updates", "a twentieth, at most 20"),
        Parameter("b2 of Adam", f"{extend.b2:g}", "0.999 from 500 updates on"),
        Parameter("decay of the EMA", f"{extend.ema_decay:g}", "over the last tenth of the updates, as 0.99 of 961"),
        Parameter("lengths of the tests", ", ".join(map(str, study.lengths)), "to twice the extended length"),
        Parameter("control", f"{control} rows of {cfg.trained_len}", "the same tokens an update"),
    ]  # fmt: skip


def arm_costs(study: StudyConfig, arms: Sequence[Arm], device: Device) -> list[ArmCost]:
    """Returns what each arm costs on one device, by arithmetic."""
    evaluation = evaluation_estimate(study, device)
    return [ArmCost(arm.name, category(arm.method), training_estimate(study, arm, device), evaluation) for arm in arms]


def training_estimate(study: StudyConfig, arm: Arm, device: Device) -> float:
    """Returns the seconds of an arm's training."""
    if not arm.trained:
        return 0.0
    length = arm.length or study.extended
    tokens = arm.recipe.steps * arm.recipe.batch_size * length
    flops = train_flops(study.model, arm.method, arm.method.row_length or length, tokens).useful
    return flops / (TRAINING * device.flops)


def evaluation_estimate(study: StudyConfig, device: Device) -> float:
    """Returns the seconds of all tests of an arm with full attention."""
    samples, flops, steps = study_samples(study), 0.0, 0
    for n in study.lengths:
        ruler = ruler_questions(study) if n <= study.extended else 0
        needles = samples // 2 if study.model.trained_len // 4 >= LEAST_PROMPT else 0
        prompts = 8 * max(study.lengths) / n + 4 * math.ceil(samples / 4) + samples + needles + ruler
        flops += prompts * forward_flops(study, n)
        rows = max(1, study.batch_tokens // n)
        steps += ANSWER["needle"] * math.ceil(needles / rows) + ANSWER["ruler"] * math.ceil(ruler / rows)
    return flops / (EVALUATION * device.flops) + DECODE_STEP * steps


def study_samples(study: StudyConfig) -> int:
    """Returns the questions of a test, task and length."""
    return study.tests["needle_number"].needle_depths  # pyright: ignore[reportAttributeAccessIssue]


def ruler_questions(study: StudyConfig) -> int:
    """Returns RULER's questions of a length, of all tasks together."""
    asked = study.tests.get("ruler")
    test = asked.test if isinstance(asked, AtLengths) else asked
    return len(test.names) * test.ruler_samples if isinstance(test, Ruler) else 0


def forward_flops(study: StudyConfig, length: int) -> float:
    """Returns the operations of reading a prompt."""
    cfg = study.model
    products = 2 * length * (parameter_count(cfg) - cfg.vocab * cfg.dim)  # the head is for few tokens
    return products + 2 * length**2 * cfg.layers * cfg.heads * cfg.head_dim
