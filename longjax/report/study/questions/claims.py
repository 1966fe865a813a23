"""The claims of arXiv:2409.12181, each with a verdict of the trials: holds, does not hold, or undecided."""

import dataclasses
import math
from collections.abc import Sequence

from longjax.report import measures
from longjax.report.measures import Measure
from longjax.report.study import recovery
from longjax.report.study.main_table import leaders, ranked, significantly_better
from longjax.report.study.questions import against_scores, beyond
from longjax.report.study.text import format_value, join_names, names_with_values
from longjax.report.study.trials import Trials

HOLDS, NOT, OPEN, UNRUN = "holds", "does not hold", "undecided", "was not run"
QUORUM = 0.9  # of pairs must significantly be so; if more than the rest significantly are not, the claim does not hold
NTK = ("ntk_32k", "ntk_64k")
BEYOND = {"ntk_32k": True, "ntk_64k": True, "yarn": False, "pi": False}  # which work beyond, by the paper
TUNED = ("pi", "yarn", "clex", *NTK)  # exact, trained, of the paper's Table 1


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement of the paper, the verdict, and the numbers behind it."""

    statement: str
    verdict: str
    evidence: str

    def __str__(self) -> str:
        return f"**{self.statement}** *{self.verdict[0].upper() + self.verdict[1:]}.* {self.evidence}"


def all_claims(trials: Trials) -> list[Claim]:
    """Return the claims in the order of the page."""
    claims = [exact_over_approximate(trials, m) for m in _headline(trials)]
    claims += [tuned_over_frozen(trials, measures.ruler(trials.extended)), ntk_is_best(trials), works_within(trials)]
    claims += [works_beyond(trials, arm, works) for arm, works in BEYOND.items() if arm in trials.main]
    return [*claims, ppl_predicts_scores(trials), close_ppl_far_ruler(trials), window_loses_needle(trials)]


def _headline(trials: Trials) -> list[Measure]:
    """-> RULER where training ended, and the needle at all lengths, as in Table 1."""
    return [measures.ruler(trials.extended), measures.needle()]


def _judged(trials: Trials, measure: Measure, arms: Sequence[str]) -> list[str]:
    """-> those that have a number and have recovered."""
    return [arm for arm in recovery.recovered(trials, arms) if not math.isnan(trials.value(measure, arm))]


def _of_kind(trials: Trials, *kinds: str) -> list[str]:
    return [arm for arm in trials.main if trials.kind(arm) in kinds]


def _tuned_left_out(trials: Trials) -> str:
    return recovery.left_out(trials, [arm for arm in TUNED if arm in trials.main])


def _common_verdict(verdicts: Sequence[str]) -> str:
    return UNRUN if not verdicts else verdicts[0] if len(set(verdicts)) == 1 else OPEN


def compare_groups(trials: Trials, measure: Measure, above: Sequence[str], below: Sequence[str]) -> tuple[str, str]:
    """Return the verdict on every method of the first group beating every one of the second, and the counts."""
    left_out = recovery.left_out(trials, [*above, *below])
    above, below = _judged(trials, measure, above), _judged(trials, measure, below)
    pairs = [(a, b) for a in above for b in below]
    if not pairs:
        return (OPEN, left_out.strip()) if left_out else (UNRUN, "")
    wins = [pair for pair in pairs if significantly_better(trials, measure, *pair)]
    losses = [(a, b) for a, b in pairs if significantly_better(trials, measure, b, a)]
    quorum = QUORUM * len(pairs)
    verdict = HOLDS if len(wins) >= quorum else NOT if len(losses) > len(pairs) - quorum else OPEN
    counts = f"Of {len(pairs)} pairs, the first is significantly better in {len(wins)}, worse in {len(losses)}"
    more = " and others" if len(losses) > 6 else ""
    names = f": {join_names(f'{b} over {a}' for a, b in losses[:6])}{more}" if losses else ""
    return verdict, f"{counts}{names}.{left_out}"


def exact_over_approximate(trials: Trials, measure: Measure) -> Claim:
    """Table 1: exact attention, fine-tuned, over approximate attention."""
    exact = [arm for arm in _of_kind(trials, "exact trained") if arm in TUNED]
    verdict = compare_groups(trials, measure, exact, _of_kind(trials, "approximate trained", "approximate frozen"))
    return Claim(f"Exact attention that is fine-tuned beats approximate attention ({measure.name}).", *verdict)


def tuned_over_frozen(trials: Trials, measure: Measure) -> Claim:
    """Table 1: fine-tuned exact methods over frozen ones."""
    exact = [arm for arm in _of_kind(trials, "exact trained") if arm in TUNED]
    verdict = compare_groups(trials, measure, exact, _of_kind(trials, "exact frozen"))
    return Claim(f"Of exact methods, the fine-tuned beat the frozen ({measure.name}).", *verdict)


def ntk_is_best(trials: Trials) -> Claim:
    """Table 1: NTK-32K leads the needle and NTK-64K RULER."""
    parts, verdicts = [], []
    for measure in _headline(trials):
        order, arms = leaders(trials, measure), _judged(trials, measure, NTK)
        if not order or not arms:
            continue
        leading = [arm for arm in arms if arm in order]
        others = [arm for arm in order if arm not in arms]
        verdicts.append(NOT if not leading else OPEN if others else HOLDS)
        level = f", not significantly ahead of {names_with_values(trials, measure, order[1:])}" if order[1:] else ""
        parts.append(
            f"{measure.name}: {names_with_values(trials, measure, order[:1])} leads{level}; "
            f"NTK: {names_with_values(trials, measure, arms)}."
        )
    evidence = " ".join(parts) + _tuned_left_out(trials)
    return Claim("Dynamic NTK, fine-tuned, is the best of all.", _common_verdict(verdicts), evidence)


def works_within(trials: Trials) -> Claim:
    """Within the extension, more context lowers perplexity."""
    near, far = measures.ppl(trials.trained), measures.ppl(trials.extended)
    arms = _judged(trials, far, _judged(trials, near, TUNED))
    lower = [arm for arm in arms if trials.value(far, arm) <= trials.value(near, arm)]
    verdict = UNRUN if not arms else HOLDS if len(lower) == len(arms) else NOT
    ends = {arm: [format_value(m, trials.value(m, arm)) for m in (near, far)] for arm in arms}
    numbers = join_names(f"{arm} {a} to {b}" for arm, (a, b) in ends.items())
    statement = "Fine-tuned exact methods are effective within their extension"
    evidence = f"Perplexity from {trials.trained} to {trials.extended}: {numbers}." if arms else ""
    statement += " (no more perplexity at its end than at the base's length)."
    return Claim(statement, verdict, evidence + _tuned_left_out(trials))


def works_beyond(trials: Trials, arm: str, works: bool) -> Claim:
    """Whether a method works beyond the length of the training, or does not: by perplexity and by RULER."""
    statement = f"Beyond its training length {arm} {'goes on working' if works else 'does not go on working'}"
    statement += f" ({trials.longest} over {trials.extended})."
    if arm in recovery.unrecovered(trials):
        return Claim(statement, OPEN, f"{arm} has not recovered {recovery.training_size(trials)}.")
    parts, verdicts = [], []
    for name, x, success, failure in (
        ("perplexity", beyond.ppl_ratio(trials, arm), beyond.holds, beyond.breaks),
        ("RULER", beyond.ruler_share(trials, arm), beyond.keeps, beyond.loses),
    ):
        if x is not None:
            as_claimed, otherwise = (success, failure) if works else (failure, success)
            verdicts.append(HOLDS if as_claimed(x) else NOT if otherwise(x) else OPEN)
            parts.append(f"{name} x{x.value:.3g} ({verdicts[-1]})")
    return Claim(statement, _common_verdict(verdicts), f"{join_names(parts)}." if parts else "")


def ppl_predicts_scores(trials: Trials) -> Claim:
    """Figure 4: perplexity goes with scores for exact methods."""
    ppl, parts, verdicts = measures.ppl(trials.extended), [], []
    for score in against_scores.task_scores(trials):
        rho, _ = against_scores.coefficients(against_scores.without_failures(trials, ppl, score, "exact"))
        if rho is not None:
            verdicts.append({-1: HOLDS, 1: NOT, 0: OPEN}[rho.sign])
            parts.append(f"{score.name} {rho}")
    decided = [v for v in set(verdicts) if v != OPEN]
    agree = len(decided) == 1 and verdicts.count(OPEN) <= len(verdicts) / 2
    verdict = UNRUN if not verdicts else decided[0] if agree else OPEN
    evidence = f"Spearman's rho of perplexity with {join_names(parts)}." if parts else ""
    evidence += recovery.left_out(trials, against_scores.group_arms(trials, "exact"))
    return Claim("Perplexity goes with scores among exact methods.", verdict, evidence)


def close_ppl_far_ruler(trials: Trials) -> Claim:
    """Table 1: perplexities from 5.79 to 5.9, RULER from 37 to 60."""
    statement = (
        "Fine-tuned exact methods are close in perplexity (within 5 %) and far apart in RULER (at least 10 points)."
    )
    ppl, score = measures.ppl(trials.extended), measures.ruler(trials.extended)
    arms = _judged(trials, score, _judged(trials, ppl, TUNED))
    if len(arms) < 2:
        return Claim(statement, UNRUN, "")
    by_ppl, by_score = ranked(trials, ppl, arms), ranked(trials, score, arms)
    spread = trials.value(ppl, by_ppl[-1]) / trials.value(ppl, by_ppl[0])
    difference = trials.value(score, by_score[0]) - trials.value(score, by_score[-1])
    left_out = _tuned_left_out(trials)
    near = spread <= 1.05
    far = difference >= 0.1 and significantly_better(trials, score, by_score[0], by_score[-1])
    verdict = HOLDS if near and far else OPEN if near and left_out else NOT  # one more method may stand far off
    ends = [names_with_values(trials, m, [x[0], x[-1]]) for m, x in ((ppl, by_ppl), (score, by_score))]
    return Claim(statement, verdict, f"{ppl.name}: {ends[0]}; {score.name}: {ends[1]}.{left_out}")


def window_loses_needle(trials: Trials) -> Claim:
    """LM-Infinite: a low perplexity, and a needle that is out of sight."""
    ppl, score = measures.ppl(trials.extended), measures.needle(trials.extended)
    statement = (
        "A window keeps perplexity low (within 25 % of the lowest) and loses the needle (less than half of the best)."
    )
    if not _judged(trials, score, _judged(trials, ppl, ("lm_infinite",))):
        return Claim(statement, UNRUN, "")
    low, high = (trials.value(m, ranked(trials, m, trials.main)[0]) for m in (ppl, score))
    own_ppl, own_score = (trials.value(m, "lm_infinite") for m in (ppl, score))
    verdict = HOLDS if own_ppl <= 1.25 * low and own_score < high / 2 else NOT
    evidence = f"lm_infinite: {ppl.name} {own_ppl:.2f}, the lowest {low:.2f}; "
    return Claim(statement, verdict, f"{evidence}{score.name} {100 * own_score:.1f}, the best {100 * high:.1f}.")
