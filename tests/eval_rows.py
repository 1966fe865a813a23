"""Plausible rows of evaluations: what a report is made of. Scores follow one number a method, its skill."""

import numpy as np

from longjax.report.aggregates import LONGBENCH_16, RULER_TASKS

LENGTHS = (4096, 8192, 16384, 32768, 65536)
DEPTHS = tuple(np.linspace(0, 100, 10).round().tolist())
SHOTS = (1, 10, 50, 100, 300, 1000)
HASH = "ab" * 32
METHODS = {  # name: (kind, the length up to which it works, its skill there)
    "base": ("base", 4096, 0.8),
    "ntk_32k": ("exact trained", 65536, 0.9),
    "pi": ("exact trained", 32768, 0.75),
    "yarn": ("exact trained", 32768, 0.7),
    "ntk_frozen": ("exact frozen", 8192, 0.5),
    "landmark": ("approximate trained", 65536, 0.4),
    "lm_infinite": ("approximate frozen", 65536, 0.3),
}


def rows(method, weights="given", run=None, lengths=LENGTHS, seed=0, **settings):
    """-> all rows of one run; `settings` are the manifests'."""
    kind, works, skill = METHODS[method]
    rng = np.random.default_rng([seed, *method.encode()])
    about = {"method": method, "weights": weights, "kind": kind, "run": run or method, "seconds": 0.0,
             "trained_len": 4096, "model": "32 layers of 4096",
             "peak_bytes": 17 * 2**30, "tokens_per_second": 5200.0 * (1 + skill)}  # fmt: skip
    base = {
        "seed": 0,
        "prompts": HASH,
        "max_length": 4096 if method == "base" else 32768,
        "data": {"name": "made", "sha256": HASH},
    } | settings

    needle = base | {"needle_kind": "sentence", "needle_bos": "lceg", "haystack": "essays", "haystack_sha256": HASH}
    ruler = base | {"version": "2024"}

    def at(length):
        return float(np.clip(skill * (1.0 if length <= works else 0.15) + 0.04 * rng.normal(), 0, 1))

    def share(benchmark, task, length, value, n=50, **extra):
        value = float(np.clip(value, 0, 1))
        error = float(np.sqrt(value * (1 - value) / n))
        row = {"benchmark": benchmark, "task": task, "length": length, "value": value, "stderr": error, "n": n}
        return about | row | {"settings": {"ruler": ruler, "needle": needle}.get(benchmark, base)} | extra

    found = []
    for length in lengths:
        loss = 1.75 + 0.3 * (1 - skill) + (0.0 if length <= works else 1.5 * np.log2(length / works) ** 0.5)
        ppl = {"value": float(np.exp(loss)), "stderr": 0.03, "nll": loss, "nll_stderr": 0.005, "n": 80, "nan": 0}
        row = {"benchmark": "perplexity", "task": "perplexity", "length": length, "protocol": "lceg", "data": "pg19"}
        found.append(about | row | ppl | {"pieces": [loss], "settings": base})
        found += [share("ruler", t, length, at(length), nulls=0, fill=0.97, precision=None) for t in RULER_TASKS]
        for depth in DEPTHS:
            score = at(length) + 0.3 * np.sin(depth)
            extra = {"depth": depth / 100, "word_overlap": 0.9 * min(max(score, 0), 1)}
            found.append(share("needle", "needle", length, score, n=1, **extra) | {"stderr": None})
            found.append(share("passkey", "passkey", length, score, n=20, depth=depth / 100, variant="landmark"))
    position = {"benchmark": "perplexity", "task": "position_nll", "length": lengths[-1], "protocol": "lceg"}
    for place in np.linspace(lengths[-1] / 64, lengths[-1], 32):
        loss = 1.7 + 0.3 * (1 - skill) + 40 / (place + 60) + 0.02 * rng.normal() + (0 if place <= works else 2.0)
        extra = {"data": "pg19", "position": float(place), "value": float(loss), "stderr": 0.02, "n": 80}
        found.append(about | position | extra | {"settings": base})
    for task in LONGBENCH_16:
        value = 0.5 * at(4096)
        bucket = {"0-4k": value + 0.02, "4-8k": value - 0.02, "8k+": None}
        found.append(share("longbench", task, None, value, lceg=0.98 * value, truncated=0.2, by_length=bucket))
    for shots in SHOTS:
        value = at(4096) * (0.4 + 0.2 * np.log10(shots))
        found.append(share("manyshot", f"trec_{shots}", None, value, n=200, shots=shots, truncated=0))
    for task, metric in (("hellaswag", "acc_norm"), ("gsm8k", "exact_match")):
        found.append(share("short", task, None, 0.6 * at(4096), n=500, metric=metric))
    found[0]["seconds"] = 812.5
    return found


def everyone(*names):
    return [row for name in names or METHODS for row in rows(name)]
