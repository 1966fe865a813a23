"""A made study in a folder, as a run writes it: two seeds, arms, weights, records of all its tests.

What arms can do follows from a few numbers each: up to which length they work, what they lose, how well they recall.
"""

import json
import zlib

import numpy as np

from longjax.report.aggregates import RULER_TASKS
from made_runs import example, write_run, write_task

TRAINED, EXTENDED = 256, 2048
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
DEPTHS = (0.0, 0.5, 1.0)
SHOTS = (1, 10)
EXACT, APPROXIMATE = ("exact trained", "exact frozen"), ("approximate trained", "approximate frozen")
MAIN = {  # name: kind, the length up to which it works, nats more than the best, share of what it recalls
    "base": ("base", 256, 0.0, 1.0),
    "pi": (EXACT[0], 2048, 0.08, 0.7),
    "ntk_32k": (EXACT[0], 4096, 0.03, 0.95),
    "ntk_64k": (EXACT[0], 4096, 0.04, 0.9),
    "theta": (EXACT[0], 2048, 0.05, 0.85),
    "yarn": (EXACT[0], 2048, 0.05, 0.75),
    "clex": (EXACT[0], 4096, 0.06, 0.8),
    "ntk_frozen": (EXACT[1], 512, 0.1, 0.5),
    "dynamic_yarn": (EXACT[1], 1024, 0.15, 0.5),
    "longlora": (APPROXIMATE[0], 2048, 0.2, 0.3),
    "landmark": (APPROXIMATE[0], 4096, 0.25, 0.4),
    "lm_infinite": (APPROXIMATE[1], 8192, 0.22, 0.12),
    "streaming_llm": (APPROXIMATE[1], 8192, 0.24, 0.1),
    "sliding_window": (APPROXIMATE[1], 8192, 0.23, 0.1),
    "self_extend": (APPROXIMATE[1], 2048, 0.1, 0.6),
    "rerope": (APPROXIMATE[1], 2048, 0.12, 0.5),
    "dca": (APPROXIMATE[1], 2048, 0.14, 0.45),
}
GRID = [f"self_extend_w{w}_g{g}" for w in (256, 512, 1024) for g in (8, 16, 32, 64)]
FEW = {  # these have few tests
    **{f"{name}_batch32": (EXACT[0], MAIN[name][1], MAIN[name][2] + 0.02, MAIN[name][3]) for name in ("pi", "yarn")},
    **{name: (APPROXIMATE[1], 2048, 0.1 + 0.01 * i, 0.6 - 0.03 * i) for i, name in enumerate(GRID)},
    "self_extend_octaves_w512": (APPROXIMATE[1], 4096, 0.12, 0.5),
    "leaky_rerope": (APPROXIMATE[1], 4096, 0.13, 0.5),
}
TABLES = {f"{name}_ds_bf16": (*MAIN[name][:2], MAIN[name][2] + 0.03, MAIN[name][3] - 0.1)
          for name in ("pi", "yarn", "longlora", "ntk_32k")}  # fmt: skip
CONTROLS = {"control": ("base", 256, -0.2, 1.0), "self_extend_on_control": (APPROXIMATE[1], 2048, -0.1, 0.6)}
ARMS = MAIN | FEW | TABLES
KINDS = ARMS | CONTROLS


def write_study(folder, arms=ARMS, seeds=(0, 1), windows=8, samples=4, lengths=LENGTHS):
    """-> the folder of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"trained_len": TRAINED, "extended_len": EXTENDED, "plan": "abcdef", "preset": {"model": {"vocab": 512}}}
    for seed in seeds:
        (folder / f"seed_{seed}").mkdir()
        (folder / f"seed_{seed}" / "settings.json").write_text(json.dumps(about | {"seed": seed}))
        for name in arms:
            for weights in ("ema", "raw") if KINDS[name][0].endswith(" trained") else ("given",):
                few = name in FEW or weights == "raw"
                write_trial(folder, name, seed, weights, few, windows, samples, lengths)
    return folder


def write_trial(folder, name, seed, weights, few, windows, samples, lengths):
    kind = KINDS[name][0]
    made = Made(name, seed, weights, windows, samples)
    run = folder / f"seed_{seed}" / "methods" / name / "evals" / weights
    parts = [({}, [*made.perplexity(lengths), *made.passkey(lengths)]), (needles("number"), made.number(lengths[2:]))]
    if not few:
        protocols = ["lceg"] + ["landmark_lceg"] * name.startswith("landmark")
        parts += [
            ({}, [made.windows(EXTENDED, p) for p in protocols]),
            (needles("sentence"), made.sentence(lengths[2:])),
        ]
        parts += [({"version": "exact"}, made.ruler(lengths[2:])), ({}, made.manyshot())]
    write_run(run, name, kind, weights)
    about = json.loads((run / "run.json").read_text()) | {"seed": seed, "train_seconds": 30.0}
    (run / "run.json").write_text(json.dumps(about | {"trained_len": TRAINED, "extended_len": EXTENDED}))
    for settings, tasks in parts:
        for task, records in tasks:
            write_task(run / task, task, records, settings)


def needles(kind):
    return {"needle_kind": kind, "needle_bos": "clean", "haystack": "books"}


class Made:
    """Records of one trial. Text is as hard for everyone, and what is asked is the same for all."""

    def __init__(self, name, seed, weights, windows, samples):
        _, self.works, self.loss, self.skill = KINDS[name]
        self.rng = np.random.default_rng([seed, zlib.crc32(f"{name} {weights}".encode())])
        self.loss += 0.01 * self.rng.normal() + 0.01 * (weights == "raw")
        self.n, self.samples = windows, samples

    def recall(self, length):
        return self.skill * (1.0 if length <= self.works else 0.1)

    def loss_at(self, length):
        return 3.0 + self.loss - 0.05 * np.log2(length) + 0.9 * max(0.0, np.log2(length / self.works))

    def perplexity(self, lengths):
        return [self.windows(length, "nested") for length in lengths]

    def windows(self, length, protocol):
        name = f"perplexity/{protocol}/test/{length}"
        hard = np.random.default_rng(length).normal(size=self.n)
        loss_I = self.loss_at(length) + 0.2 * hard + 0.01 * self.rng.normal(size=self.n)
        places = [2**i for i in range(4, 13) if 2**i <= length]
        about = {"protocol": protocol, "data": "test", "length": length, "weight": 1.0, "hits": 3, "n": length - 1}
        shape_P = np.array([3 / p + 0.9 * max(0.0, np.log2(p / self.works)) for p in places])
        count = [(length - 1) // len(places)] * len(places)
        return name, [
            example(name, i, **about, piece=i // 2, document=i // 2, start=256 * i, nll=float(x) * (length - 1),
                    bucket_n=count, bucket_nll=[float(x - shape_P.mean() + s) for s in shape_P])
            for i, x in enumerate(loss_I)
        ]  # fmt: skip

    def cells(self, length, depths=DEPTHS):
        """-> depth, and whether it was found; the end of the text is easier."""
        for depth in depths:
            share = min(1.0, self.recall(length) + (0.2 if depth == 1.0 else 0.0))
            for _ in range(self.samples):
                yield depth, bool(self.rng.random() < share)

    def passkey(self, lengths):
        for length in lengths:
            name = f"passkey/study/{length}"
            about = {"variant": "study", "length": length}
            yield name, [example(name, i, **about, depth=d, cell=d, hits=5 * good, n=5)
                         for i, (d, good) in enumerate(self.cells(length))]  # fmt: skip

    def number(self, lengths):
        for length in lengths:
            name = f"needle/number/{length}"
            about = {"form": "number", "length": length}
            yield name, [example(name, i, **about, depth=d, hits=5 * good, n=5)
                         for i, (d, good) in enumerate(self.cells(length))]  # fmt: skip

    def sentence(self, lengths):
        answer = "eat a sandwich and sit in Dolores Park on a sunny day."
        needle = f"The best thing to do in San Francisco is {answer}"
        about = {
            "form": "sentence",
            "answer": answer,
            "needle": needle,
            "references": ["eat a sandwich", "Dolores Park"],
        }
        for length in lengths:
            name = f"needle/sentence/{length}"
            yield name, [
                example(name, i, **about, length=length, depth=d, prediction=answer if good else "read a book.")
                for i, (d, good) in enumerate(self.cells(length))
            ]  # fmt: skip

    def ruler(self, lengths):
        for length in lengths:
            for hard, task in enumerate(RULER_TASKS):
                name = f"ruler/{length}/{task}"
                about = {"ruler_task": task, "length": length, "metric": "all", "references": ["4711"], "like": "",
                         "fill": 0.98}  # fmt: skip
                share = self.recall(length) * (1 - 0.05 * hard)
                yield name, [example(name, i, **about, prediction="4711" if self.rng.random() < share else "none")
                             for i in range(self.samples)]  # fmt: skip

    def manyshot(self):
        for shots in SHOTS:
            name = f"manyshot/trec_{shots}"
            about = {
                "answers": ["Food"],
                "all_classes": ["Food", "Animal"],
                "length": 100,
                "n_truncated": 0,
                "shots": shots,
            }
            share = self.recall(256) * (0.5 + 0.02 * shots)
            yield name, [example(name, i, **about, prediction="Food" if self.rng.random() < share else "Animal")
                         for i in range(5 * self.samples)]  # fmt: skip
