"""Sentences that follow from the numbers of a study by rules; nothing is assumed about any method."""

from collections.abc import Sequence

import numpy as np

from longjax.methods.method import CATEGORIES
from longjax.report.measures import needle, passkey, ppl
from longjax.report.rows import Evaluations, ReportSubject
from longjax.report.stats.correlation import ranks

SIGNIFICANT = 2.0  # standard errors that make a difference


def findings(evals: Evaluations) -> list[str]:
    """Return the findings, each a sentence or two; one subject a method."""
    base = base_of(evals)
    if base is None or not methods_of(evals):
        return ["There are no evaluations of the base model beside those of other methods, so nothing can be compared."]
    parts = (
        base_decay, against_base, use_of_context, price_at_trained_length, beyond_training, passkeys, needles,
        medians_by_category, rank_agreement, lost_windows,
    )  # fmt: skip
    return [line for part in parts for line in part(evals, base)]


def study_lengths(evals: Evaluations) -> tuple[int, int, int]:
    """Return the trained length, the extended length and twice that."""
    assert evals.trained is not None
    assert evals.extended is not None
    return evals.trained, evals.extended, 2 * evals.extended


def base_of(evals: Evaluations) -> ReportSubject | None:
    """Return the base model; None: it was not evaluated."""
    return next((who for who in evals.rows if who.kind == "base"), None)


def methods_of(evals: Evaluations) -> list[ReportSubject]:
    """Return all subjects but the base."""
    return [who for who in evals.rows if who.kind != "base"]


def perplexity(evals: Evaluations, who: ReportSubject, length: int) -> float:
    """Return the perplexity at a length; NaN: not run, or not finite."""
    return ppl(length).value(evals.rows[who])


def passkey_share(evals: Evaluations, who: ReportSubject, length: int) -> float:
    """Return the share of pass keys retrieved at a length, mean over depths; NaN: not run."""
    return passkey(length).value(evals.rows[who])


def needle_share(evals: Evaluations, who: ReportSubject, length: int) -> float:
    """Return the share of needles found at a length, mean over depths; NaN: not run."""
    return needle(length, "number").value(evals.rows[who])


def base_decay(evals: Evaluations, base: ReportSubject) -> list[str]:
    """How much worse the base is beyond its context."""
    trained, extended, _ = study_lengths(evals)
    near, far = (perplexity(evals, base, n) for n in (trained, extended))
    return [
        f"The base model, trained at {trained}, has perplexity {near:.2f} at {trained} and "
        f"{far:.4g} at {extended} ({far / near:.3g} times)."
    ]


def against_base(evals: Evaluations, base: ReportSubject) -> list[str]:
    """Methods of lower perplexity than the base at the extended length."""
    _, extended, _ = study_lengths(evals)
    ranked = _by_perplexity(
        evals, [who for who in methods_of(evals) if ppl(extended).select(evals.rows[who])], extended
    )
    better = [who for who in ranked if significantly_lower(evals, who, base, extended, extended)]
    if not better:
        return [f"At {extended}, no method has a significantly lower perplexity than the base."]
    lowest = ", ".join(f"{who.label} {perplexity(evals, who, extended):.2f}" for who in better[:3])
    lines = [
        f"At {extended}, {len(better)} of {len(ranked)} methods have a lower perplexity than the base "
        f"({perplexity(evals, base, extended):.2f}); the lowest: {lowest}."
    ]
    worse = [who for who in ranked if who not in better]
    return [*lines, f"Not significantly better than the base at {extended}: {_labels(worse)}."] if worse else lines


def use_of_context(evals: Evaluations, base: ReportSubject) -> list[str]:
    """A longer context is worth something only if it beats the base at its own."""
    trained, extended, _ = study_lengths(evals)
    better = [who for who in methods_of(evals) if significantly_lower(evals, who, base, extended, trained)]
    own = perplexity(evals, base, trained)
    if not better:
        return [f"No method at {extended} has a significantly lower perplexity than the base at its own {trained}."]
    best = min(better, key=lambda who: perplexity(evals, who, extended))
    return [
        f"The longer context pays: {len(better)} of {len(methods_of(evals))} methods have a lower perplexity at "
        f"{extended} than the base at {trained} ({own:.2f}), by up to "
        f"{100 * (1 - perplexity(evals, best, extended) / own):.0f}% ({best.label}): {_labels(better)}. (A part of it "
        f"is fewer starts of windows: attention that never looks back further than {trained} shows how much.)"
    ]


def price_at_trained_length(evals: Evaluations, base: ReportSubject) -> list[str]:
    """What the extension costs at the length that the base was trained at."""
    trained, _, _ = study_lengths(evals)
    ratios = {who: perplexity(evals, who, trained) / perplexity(evals, base, trained) for who in methods_of(evals)}
    worse = [who for who, x in ratios.items() if x > 1.01 and significantly_lower(evals, base, who, trained, trained)]
    if not worse:
        return [f"No method costs more than 1% of perplexity at {trained}."]
    costs = (f"{who.label} +{100 * (ratios[who] - 1):.0f}%" for who in _by_perplexity(evals, worse, trained))
    return [f"The price at {trained}, where the base was trained: {', '.join(costs)}."]


def beyond_training(evals: Evaluations, base: ReportSubject) -> list[str]:
    """Methods that hold at twice the extended length, and those that break."""
    _, extended, longest = study_lengths(evals)
    known = [who for who in methods_of(evals) if perplexity(evals, who, extended) < perplexity(evals, base, extended)]
    ratios = {who: perplexity(evals, who, longest) / perplexity(evals, who, extended) for who in known}
    ratios = {who: x for who, x in ratios.items() if np.isfinite(x)}
    holding, breaking = [who for who, x in ratios.items() if x <= 1.05], [who for who, x in ratios.items() if x > 1.5]
    lines = [f"At {longest}, within 5% of their perplexity at {extended}: {_labels(holding)}."] if holding else []
    if breaking:
        worst = ", ".join(f"{who.label} x{ratios[who]:.3g}" for who in breaking)
        lines.append(f"At {longest}, perplexity is above 1.5 times that at {extended}: {worst}.")
    return lines


def passkeys(evals: Evaluations, base: ReportSubject) -> list[str]:
    """Who retrieves pass keys at the extended length and beyond."""
    trained, extended, longest = study_lengths(evals)
    own = passkey_share(evals, base, trained)
    if np.isnan(own):
        return []
    far = 100 * passkey_share(evals, base, extended)
    lines = [f"The base retrieves {100 * own:.0f}% of the pass keys at {trained} and {far:.0f}% at {extended}."]
    if own < 0.5:
        lines.append("As the base hardly recalls at its own length, low numbers at others say little about extension.")
    for length in (extended, longest):
        shares = {who: x for who in methods_of(evals) if np.isfinite(x := passkey_share(evals, who, length))}
        failed = [who for who, x in shares.items() if x < 0.1]
        tail = f"; below 10%: {_labels(failed)}" if failed else ""
        lines += [f"Pass keys at {length}, at least half retrieved: {_at_least_half(shares)}{tail}."] if shares else []
    return lines


def needles(evals: Evaluations, base: ReportSubject) -> list[str]:
    """Numbers asked for by name among others, which are harder to find than the only key."""
    trained, extended, _ = study_lengths(evals)
    shares = {who: x for who in methods_of(evals) if np.isfinite(x := needle_share(evals, who, extended))}
    near, far = (100 * needle_share(evals, base, n) for n in (trained, extended))
    if not shares or np.isnan(near):
        return []
    return [
        f"The base finds {near:.0f}% of the needles at {trained} and {far:.0f}% at {extended}; there, at least half "
        f"are found by: {_at_least_half(shares)}."
    ]


def _at_least_half(shares: dict[ReportSubject, float]) -> str:
    best_first = sorted((who for who, x in shares.items() if x >= 0.5), key=lambda who: -shares[who])
    return ", ".join(f"{who.label} {100 * shares[who]:.0f}%" for who in best_first) or "no method"


def medians_by_category(evals: Evaluations, base: ReportSubject) -> list[str]:
    """Medians, so that one failure does not hide the others."""
    _, extended, _ = study_lengths(evals)
    parts = []
    for kind in CATEGORIES[1:]:
        values = {who: perplexity(evals, who, extended) for who in methods_of(evals) if who.kind == kind}
        finite = [who for who, x in values.items() if np.isfinite(x)]
        if finite:
            keys = [x for who in finite if np.isfinite(x := passkey_share(evals, who, extended))]
            tail = f", {100 * np.median(keys):.0f}% of keys" if keys else ""
            parts.append(f"{kind} ({len(finite)}): {np.median([values[who] for who in finite]):.2f}{tail}")
    return [f"Medians at {extended} by kind: {'; '.join(parts)}."] if parts else []


def rank_agreement(evals: Evaluations, base: ReportSubject) -> list[str]:
    """Spearman's rank correlation of perplexity and retrieval over methods."""
    _, extended, _ = study_lengths(evals)
    pairs = [(perplexity(evals, who, extended), passkey_share(evals, who, extended)) for who in methods_of(evals)]
    values = np.array(pairs)[np.isfinite(pairs).all(axis=1)]
    if len(values) < 4 or np.ptp(values[:, 1]) == 0 or np.ptp(values[:, 0]) == 0:
        return []
    rho = np.corrcoef(ranks(values[:, 0]), ranks(values[:, 1]))[0, 1]
    return [
        f"Lower perplexity and more keys at {extended}: rank correlation {-rho:+.2f} over {len(values)} methods "
        "(+1: perplexity predicts retrieval)."
    ]


def lost_windows(evals: Evaluations, base: ReportSubject) -> list[str]:
    """Windows whose loss is not finite, which no mean contains."""
    return [
        f"No finite loss in {row['nan']} windows of {row['length']}: {who.label}."
        for who, rows in evals.rows.items()
        for row in sorted((r for r in rows if r["task"] == "perplexity" and r["nan"]), key=lambda r: r["length"])
    ]


def significantly_lower(evals: Evaluations, a: ReportSubject, b: ReportSubject, length_a: int, length_b: int) -> bool:
    """Whether a's loss is lower than b's by SIGNIFICANT standard errors of the difference on the same text."""
    rows_a, rows_b = (ppl(n).select(evals.rows[who]) for who, n in ((a, length_a), (b, length_b)))
    if not rows_a or not rows_b or rows_a[0]["value"] is None:
        return False
    if rows_b[0]["value"] is None:
        return True
    pairs = zip(rows_a[0]["pieces"], rows_b[0]["pieces"], strict=True)
    difference = np.array([y - x for x, y in pairs if x is not None and y is not None])
    if len(difference) < 2:
        return False
    return bool(difference.mean() > SIGNIFICANT * difference.std(ddof=1) / np.sqrt(len(difference)))


def _by_perplexity(evals: Evaluations, subjects: Sequence[ReportSubject], length: int) -> list[ReportSubject]:
    """-> the lowest first, those without a finite one last."""
    values = {who: perplexity(evals, who, length) for who in subjects}
    return sorted(subjects, key=lambda who: values[who] if np.isfinite(values[who]) else np.inf)


def _labels(subjects: Sequence[ReportSubject]) -> str:
    return ", ".join(who.label for who in subjects)
