"""Numbers and names in sentences."""

import math
from collections.abc import Iterable, Sequence

from longjax.report.measures import Measure
from longjax.report.study.trials import Trials


def join_names(names: Iterable[str]) -> str:
    """Return "a, b and c"; "none" for no names."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names) or "none"


def format_value(measure: Measure, value: float) -> str:
    """Return perplexity as it is, all else in per cent."""
    if math.isnan(value):
        return "not run"
    if not measure.is_ppl:
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if value < 1000 else f"{value:.0f}" if value < 1e6 else f"{value:.2g}"


def names_with_values(trials: Trials, measure: Measure, arms: Sequence[str]) -> str:
    """Return "yarn 12.30 and pi 13.10"."""
    return join_names(f"{arm} {format_value(measure, trials.value(measure, arm))}" for arm in arms)
