"""Numbers and names in sentences."""

import math
from collections.abc import Iterable, Sequence

from longjax.report.study.measures import Measure
from longjax.report.study.trials import Trials, Versus


def listed(names: Iterable[str]) -> str:
    """-> "a, b and c"; "none" of none."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names) or "none"


def text(measure: Measure, value: float) -> str:
    """-> perplexity as it is, all else in per cent."""
    if math.isnan(value):
        return "not run"
    if not measure.is_ppl:
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if value < 1000 else f"{value:.0f}" if value < 1e6 else f"{value:.2g}"


def with_numbers(trials: Trials, measure: Measure, arms: Sequence[str]) -> str:
    """-> "yarn 12.30 and pi 13.10"."""
    return listed(f"{arm} {text(measure, trials.value(measure, arm))}" for arm in arms)


def apart(measure: Measure, found: Versus) -> str:
    """-> "+1.2 [0.4, 2.1]", the 95 % interval."""
    scale, digits = (1, 2) if measure.is_ppl else (100, 1)
    low, high = (f"{scale * x:+.{digits}f}" for x in found.interval)
    return f"{scale * found.difference:+.{digits}f} [{low}, {high}]"
