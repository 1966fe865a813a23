"""Sentences that the numbers of a study support. Nothing here is known beforehand about any method."""

import numpy as np

from longjax.methods.method import CATEGORIES
from longjax.report.single_run.results import Result, Study
from longjax.report.stats.correlation import ranks

SURE = 2.0  # standard errors that make a difference


def findings(study: Study) -> list[str]:
    if study.base is None or not study.methods:
        return ["There are no evaluations of the base model beside those of other methods, so nothing can be compared."]
    parts = (of_base, against_base, use_of_context, price, beyond, recall, needles, of_kinds, agreement, failures)
    return [line for part in parts for line in part(study, study.base)]


def of_base(study: Study, base: Result) -> list[str]:
    c, extended, _ = study.lengths
    factor = base.perplexity(extended) / base.perplexity(c)
    return [
        f"The base model, trained at {c}, has perplexity {base.perplexity(c):.2f} at {c} and "
        f"{base.perplexity(extended):.4g} at {extended} ({factor:.3g} times)."
    ]


def against_base(study: Study, base: Result) -> list[str]:
    """Who has a lower perplexity than the base at the extended length, and by how much."""
    extended = study.extended
    ranked = sorted((r for r in study.methods if r.ppl.get(extended)), key=lambda r: order(r.perplexity(extended)))
    better = [r for r in ranked if sure(r, base, extended, extended)]
    if not better:
        return [f"At {extended}, no method has a surely lower perplexity than the base."]
    shown = ", ".join(f"{r.method} {r.perplexity(extended):.2f}" for r in better[:3])
    lines = [
        f"At {extended}, {len(better)} of {len(ranked)} methods have a lower perplexity than the base "
        f"({base.perplexity(extended):.2f}); the lowest: {shown}."
    ]
    worse = [r for r in ranked if r not in better]
    return [*lines, f"Not surely better than the base at {extended}: {names(worse)}."] if worse else lines


def use_of_context(study: Study, base: Result) -> list[str]:
    """A longer context is worth something only if it beats the base at its own."""
    c, extended, _ = study.lengths
    gain = [r for r in study.methods if sure(r, base, extended, c)]
    if not gain:
        return [f"No method at {extended} has a surely lower perplexity than the base at its own {c}."]
    least = min(gain, key=lambda r: r.perplexity(extended))
    return [
        f"The longer context pays: {len(gain)} of {len(study.methods)} methods have a lower perplexity at {extended} "
        f"than the base at {c} ({base.perplexity(c):.2f}), by up to {drop(least, base, extended, c)} ({least.method}): "
        f"{names(gain)}. (A part of it is fewer starts of windows: attention that never looks back further than "
        f"{c} shows how much.)"
    ]


def price(study: Study, base: Result) -> list[str]:
    """What extension costs at the length that the base was trained at."""
    c = study.trained
    paid = [r for r in study.methods if r.perplexity(c) > 1.01 * base.perplexity(c) and sure(base, r, c, c)]
    if not paid:
        return [f"No method costs more than 1% of perplexity at {c}."]
    shown = (f"{r.method} +{100 * (r.perplexity(c) / base.perplexity(c) - 1):.0f}%" for r in by_ppl(paid, c))
    return [f"The price at {c}, where the base was trained: " + ", ".join(shown) + "."]


def beyond(study: Study, base: Result) -> list[str]:
    """Who holds at twice the extended length, and who breaks."""
    _, extended, longest = study.lengths
    able = [r for r in study.methods if r.perplexity(extended) < base.perplexity(extended)]
    able = [r for r in able if np.isfinite(r.perplexity(longest))]
    holds = [r for r in able if r.perplexity(longest) <= 1.05 * r.perplexity(extended)]
    breaks = [r for r in able if r.perplexity(longest) > 1.5 * r.perplexity(extended)]
    lines = [f"At {longest}, within 5% of their perplexity at {extended}: {names(holds)}."] if holds else []
    worst = ", ".join(f"{r.method} x{r.perplexity(longest) / r.perplexity(extended):.3g}" for r in breaks)
    return lines + [f"At {longest}, perplexity is above 1.5 times that at {extended}: {worst}."] * bool(breaks)


def recall(study: Study, base: Result) -> list[str]:
    c, extended, longest = study.lengths
    own = base.passkey(c)
    if np.isnan(own):
        return []
    lines = [
        f"The base retrieves {100 * own:.0f}% of the pass keys at {c} and {percent(base, extended)} at {extended}."
    ]
    if own < 0.5:
        lines.append("As the base hardly recalls at its own length, low numbers at others say little about extension.")
    for length in (extended, longest):
        tried = [r for r in study.methods if np.isfinite(r.passkey(length))]
        most = sorted((r for r in tried if r.passkey(length) >= 0.5), key=lambda r: -r.passkey(length))
        shown = ", ".join(f"{r.method} {percent(r, length)}" for r in most) or "no method"
        failed = [r for r in tried if r.passkey(length) < 0.1]
        tail = f"; below 10%: {names(failed)}" if failed else ""
        lines += [f"Pass keys at {length}, at least half retrieved: {shown}{tail}."] if tried else []
    return lines


def needles(study: Study, base: Result) -> list[str]:
    """Numbers with names among others, which are harder to find than the only key."""
    c, extended, _ = study.lengths
    tried = [r for r in study.methods if np.isfinite(r.needle(extended))]
    if not tried or np.isnan(base.needle(c)):
        return []
    most = sorted((r for r in tried if r.needle(extended) >= 0.5), key=lambda r: -r.needle(extended))
    shown = ", ".join(f"{r.method} {100 * r.needle(extended):.0f}%" for r in most) or "no method"
    own = f"The base finds {100 * base.needle(c):.0f}% of the needles at {c} and {100 * base.needle(extended):.0f}%"
    return [f"{own} at {extended}; there, at least half are found by: {shown}."]


def of_kinds(study: Study, base: Result) -> list[str]:
    """Medians, so that one failure does not hide the others."""
    parts = []
    for kind in CATEGORIES[1:]:
        mine = [r for r in study.methods if r.kind == kind and np.isfinite(r.perplexity(study.extended))]
        if mine:
            ppl = np.median([r.perplexity(study.extended) for r in mine])
            keys = [r.passkey(study.extended) for r in mine if np.isfinite(r.passkey(study.extended))]
            tail = f", {100 * np.median(keys):.0f}% of keys" if keys else ""
            parts.append(f"{kind} ({len(mine)}): {ppl:.2f}{tail}")
    return [f"Medians at {study.extended} by kind: " + "; ".join(parts) + "."] if parts else []


def agreement(study: Study, base: Result) -> list[str]:
    """Does perplexity predict retrieval? Spearman's rank correlation over methods."""
    pairs = np.array([(r.perplexity(study.extended), r.passkey(study.extended)) for r in study.methods])
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < 4 or np.ptp(pairs[:, 1]) == 0 or np.ptp(pairs[:, 0]) == 0:
        return []
    rho = np.corrcoef(ranks(pairs[:, 0]), ranks(pairs[:, 1]))[0, 1]
    return [
        f"Lower perplexity and more keys at {study.extended}: rank correlation {-rho:+.2f} over {len(pairs)} methods "
        "(+1: perplexity tells who retrieves)."
    ]


def failures(study: Study, base: Result) -> list[str]:
    bad = [(r.method, n, x["nan"]) for r in study.results for n, x in sorted(r.ppl.items()) if x["nan"]]
    return [f"No finite loss in {k} windows of {n}: {name}." for name, n, k in bad]


def sure(a: Result, b: Result, length_a: int, length_b: int) -> bool:
    """Whether a's loss is lower than b's by SURE standard errors of the difference on the same text."""
    x, y = a.ppl.get(length_a), b.ppl.get(length_b)
    if x is None or y is None or x["value"] is None:
        return False
    if y["value"] is None:
        return True
    pairs = [(p, q) for p, q in zip(x["pieces"], y["pieces"], strict=True) if p is not None and q is not None]
    difference = np.array([q - p for p, q in pairs])
    if len(difference) < 2:
        return False
    return bool(difference.mean() > SURE * difference.std(ddof=1) / np.sqrt(len(difference)))


def drop(a: Result, b: Result, length_a: int, length_b: int) -> str:
    return f"{100 * (1 - a.perplexity(length_a) / b.perplexity(length_b)):.0f}%"


def by_ppl(results: list[Result], length: int) -> list[Result]:
    return sorted(results, key=lambda r: order(r.perplexity(length)))


def order(x: float) -> float:
    return x if np.isfinite(x) else np.inf


def percent(r: Result, length: int) -> str:
    return f"{100 * r.passkey(length):.0f}%"


def names(results: list[Result]) -> str:
    return ", ".join(r.method for r in results)
