"""What the paper claims (arXiv:2409.12181), each put to the trials: it holds here, it does not, or nobody can tell."""

import dataclasses
import math
from collections.abc import Sequence

from longjax.report.study import measures, recovery
from longjax.report.study.main_table import leaders, ranked, significantly_better
from longjax.report.study.measures import Measure
from longjax.report.study.questions import against_scores, beyond
from longjax.report.study.text import listed, text, with_numbers
from longjax.report.study.trials import Trials

HOLDS, NOT, OPEN, UNRUN = "holds", "does not hold", "cannot be told", "was not run"
MOST = 0.9  # of pairs must surely be so; if more than the rest surely are not, the claim does not hold
NTK = ("ntk_32k", "ntk_64k")
BEYOND = {"ntk_32k": True, "ntk_64k": True, "yarn": False, "pi": False}  # who goes on, as the paper has it
TUNED = ("pi", "yarn", "clex", *NTK)  # exact, trained, of the paper's Table 1


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the paper's, the verdict, and the numbers behind it."""

    said: str
    verdict: str
    why: str

    @classmethod
    def untold(cls, said: str, arm: str, trials: Trials) -> "Claim":
        return cls(said, OPEN, f"{arm} has not recovered: cannot be told {recovery.at_so_many(trials)}.")

    def __str__(self) -> str:
        return f"**{self.said}** *{self.verdict[0].upper() + self.verdict[1:]}.* {self.why}"


def claims(trials: Trials) -> list[Claim]:
    found = [kinds(trials, m) for m in headline(trials)]
    found += [tuning(trials, measures.ruler(trials.extended)), best(trials), within(trials)]
    found += [further(trials, arm, goes_on) for arm, goes_on in BEYOND.items() if arm in trials.main]
    return [*found, told(trials), close(trials), windows(trials)]


def headline(trials: Trials) -> list[Measure]:
    """-> RULER where training ended, and the needle at all lengths, as in Table 1."""
    return [measures.ruler(trials.extended), measures.needle()]


def run(trials: Trials, measure: Measure, arms: Sequence[str]) -> list[str]:
    """-> those that have a number and can be judged."""
    return [arm for arm in recovery.recovered(trials, arms) if not math.isnan(trials.value(measure, arm))]


def of_kind(trials: Trials, *kinds: str) -> list[str]:
    return [arm for arm in trials.main if trials.kind(arm) in kinds]


def pairs(trials: Trials, measure: Measure, above: Sequence[str], below: Sequence[str]) -> tuple[str, str]:
    """-> whether everyone of the first surely beats everyone of the second; the counts."""
    left = recovery.cannot(trials, [*above, *below])
    above, below = run(trials, measure, above), run(trials, measure, below)
    every = [(a, b) for a in above for b in below]
    if not every:
        return (OPEN, left.strip()) if left else (UNRUN, "")
    wins = [x for x in every if significantly_better(trials, measure, *x)]
    losses = [(a, b) for a, b in every if significantly_better(trials, measure, b, a)]
    sure = MOST * len(every)
    verdict = HOLDS if len(wins) >= sure else NOT if len(losses) > len(every) - sure else OPEN
    lines = f"Of {len(every)} pairs, the first is surely better in {len(wins)}, surely worse in {len(losses)}"
    tail = f": {listed(f'{b} over {a}' for a, b in losses[:6])}{' and others' * (len(losses) > 6)}" if losses else ""
    return verdict, f"{lines}{tail}.{left}"


def kinds(trials: Trials, measure: Measure) -> Claim:
    exact = [arm for arm in of_kind(trials, "exact trained") if arm in TUNED]
    verdict, why = pairs(trials, measure, exact, of_kind(trials, "approximate trained", "approximate frozen"))
    return Claim(f"Exact attention that is fine-tuned beats approximate attention ({measure.name}).", verdict, why)


def tuning(trials: Trials, measure: Measure) -> Claim:
    exact = [arm for arm in of_kind(trials, "exact trained") if arm in TUNED]
    verdict, why = pairs(trials, measure, exact, of_kind(trials, "exact frozen"))
    return Claim(f"Of exact methods, the fine-tuned beat the frozen ({measure.name}).", verdict, why)


def best(trials: Trials) -> Claim:
    """Table 1: NTK-32K leads the needle and NTK-64K RULER."""
    parts, verdicts = [], []
    for measure in headline(trials):
        order, arms = leaders(trials, measure), run(trials, measure, NTK)
        if not order or not arms:
            continue
        led = [arm for arm in arms if arm in order]
        others = [arm for arm in order if arm not in arms]
        verdicts.append(NOT if not led else OPEN if others else HOLDS)
        level = f", not surely ahead of {with_numbers(trials, measure, order[1:])}" if order[1:] else ""
        parts.append(
            f"{measure.name}: {with_numbers(trials, measure, order[:1])} leads{level}; "
            f"NTK: {with_numbers(trials, measure, arms)}."
        )
    verdict = UNRUN if not verdicts else verdicts[0] if len(set(verdicts)) == 1 else OPEN
    why = " ".join(parts) + recovery.cannot(trials, [arm for arm in TUNED if arm in trials.main])
    return Claim("Dynamic NTK, fine-tuned, is the best of all.", verdict, why)


def within(trials: Trials) -> Claim:
    """Within the extension, more context lowers perplexity."""
    near, far = measures.ppl(trials.trained), measures.ppl(trials.extended)
    arms = run(trials, far, run(trials, near, TUNED))
    good = [arm for arm in arms if trials.value(far, arm) <= trials.value(near, arm)]
    verdict = UNRUN if not arms else HOLDS if len(good) == len(arms) else NOT
    numbers = listed(f"{a} {text(near, trials.value(near, a))} to {text(far, trials.value(far, a))}" for a in arms)
    said = "Fine-tuned exact methods are effective within their extension"
    why = f"Perplexity from {trials.trained} to {trials.extended}: {numbers}." if arms else ""
    why += recovery.cannot(trials, [arm for arm in TUNED if arm in trials.main])
    return Claim(f"{said} (no more perplexity at its end than at the base's length).", verdict, why)


def further(trials: Trials, arm: str, goes_on: bool) -> Claim:
    """Whether one method goes on beyond the length of the training, or does not: by perplexity and by RULER."""
    said = f"Beyond its training length {arm} {'goes on working' if goes_on else 'does not go on working'}"
    said += f" ({trials.longest} over {trials.extended})."
    if arm in recovery.unrecovered(trials):
        return Claim.untold(said, arm, trials)
    parts, verdicts = [], []
    for name, x, good, bad in (
        ("perplexity", beyond.ratio(trials, arm), beyond.holds, beyond.breaks),
        ("RULER", beyond.kept(trials, arm), beyond.keeps, beyond.loses),
    ):
        if x is not None:
            verdicts.append(HOLDS if (good if goes_on else bad)(x) else NOT if (bad if goes_on else good)(x) else OPEN)
            parts.append(f"{name} x{x.value:.3g} ({verdicts[-1]})")
    verdict = UNRUN if not verdicts else verdicts[0] if len(set(verdicts)) == 1 else OPEN
    return Claim(said, verdict, f"{listed(parts)}." if parts else "")


def told(trials: Trials) -> Claim:
    """Figure 4: perplexity goes with scores for exact methods."""
    ppl, parts, verdicts = measures.ppl(trials.extended), [], []
    for score in against_scores.scores(trials):
        rho, _ = against_scores.coefficients(against_scores.able(trials, ppl, score, "exact"))
        if rho is not None:
            verdicts.append({-1: HOLDS, 1: NOT, 0: OPEN}[rho.sign])
            parts.append(f"{score.name} {rho}")
    sure = [v for v in set(verdicts) if v != OPEN]
    verdict = (
        UNRUN if not verdicts else sure[0] if len(sure) == 1 and verdicts.count(OPEN) <= len(verdicts) / 2 else OPEN
    )
    why = f"Spearman's rho of perplexity with {listed(parts)}." if parts else ""
    why += recovery.cannot(trials, against_scores.group(trials, "exact"))
    return Claim("Perplexity goes with scores among exact methods.", verdict, why)


def close(trials: Trials) -> Claim:
    """Table 1: perplexities from 5.79 to 5.9, RULER from 37 to 60."""
    ppl, score = measures.ppl(trials.extended), measures.ruler(trials.extended)
    arms = run(trials, score, run(trials, ppl, TUNED))
    if len(arms) < 2:
        return Claim(CLOSE, UNRUN, "")
    by_ppl, by_score = ranked(trials, ppl, arms), ranked(trials, score, arms)
    spread = trials.value(ppl, by_ppl[-1]) / trials.value(ppl, by_ppl[0])
    apart = trials.value(score, by_score[0]) - trials.value(score, by_score[-1])
    sure = significantly_better(trials, score, by_score[0], by_score[-1])
    left = recovery.cannot(trials, [arm for arm in TUNED if arm in trials.main])
    near, far = spread <= 1.05, apart >= 0.1 and sure
    verdict = HOLDS if near and far else OPEN if near and left else NOT  # one more method may stand far off
    ends = (with_numbers(trials, m, [x[0], x[-1]]) for m, x in ((ppl, by_ppl), (score, by_score)))
    why = "{}; {}.".format(*(f"{m.name}: {t}" for m, t in zip((ppl, score), ends, strict=True)))
    return Claim(CLOSE, verdict, why + left)


CLOSE = "Fine-tuned exact methods are close in perplexity (within 5 %) and far apart in RULER (at least 10 points)."


def windows(trials: Trials) -> Claim:
    """LM-Infinite: a low perplexity, and a needle that is out of sight."""
    ppl, score = measures.ppl(trials.extended), measures.needle(trials.extended)
    said = (
        "A window keeps perplexity low (within 25 % of the lowest) and loses the needle (less than half of the best)."
    )
    arms = run(trials, score, run(trials, ppl, ("lm_infinite",)))
    if not arms:
        return Claim(said, UNRUN, "")
    low, high = (trials.value(m, ranked(trials, m, trials.main)[0]) for m in (ppl, score))
    mine = [trials.value(m, "lm_infinite") for m in (ppl, score)]
    verdict = HOLDS if mine[0] <= 1.25 * low and mine[1] < high / 2 else NOT
    why = f"lm_infinite: {ppl.name} {mine[0]:.2f}, the lowest {low:.2f}; {score.name} {100 * mine[1]:.1f}, the best "
    return Claim(said, verdict, f"{why}{100 * high:.1f}.")
