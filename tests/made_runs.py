"""Folders of evaluation runs, as a run writes them, with made answers."""

import json

import numpy as np

from longjax.files import sha256_bytes


def write_run(folder, method, kind="exact trained", weights="given", tasks=None, settings=None):
    """`tasks`: records by name of the task."""
    folder.mkdir(parents=True)
    about = {"method": method, "kind": kind, "weights": weights, "checkpoint": f"made/{method}"}
    (folder / "run.json").write_text(json.dumps(about))
    for name, records in (tasks or {}).items():
        write_task(folder / name, name, records, settings)
    return folder


def write_task(own, name, records, settings=None):
    own.mkdir(parents=True)
    manifest = {"task": name, "settings": {"seed": 0} | (settings or {}), "n": len(records)}
    (own / "manifest.json").write_text(json.dumps(manifest))
    (own / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (own / "cost.jsonl").write_text(json.dumps({"peak_bytes": 2**30, "device": "a made one"}) + "\n")


def example(task, index, **fields):
    asked = {"task": task, "index": index, "n_prompt_tokens": 100, "prompt_sha256": sha256_bytes(f"{task} {index}")}
    return asked | {"batch": 0, "wall_ms": 10.0} | fields


def answers(task, good, n=40):
    """-> records of a LongBench task, of which the first `good` are right."""
    about = {"answers": ["a green door"], "all_classes": [], "length": 3000, "n_truncated": 0}
    return [example(task, i, **about, prediction="a green door" if i < good else "no idea") for i in range(n)]


def windows(loss, n=12, seed=0, protocol="nested", length=128):
    """-> records of perplexity: four windows a piece, whose text is harder or easier."""
    hard = np.random.default_rng(seed).normal(size=n // 4).repeat(4)
    about = {"protocol": protocol, "data": "made", "length": length, "hits": 3, "n": length - 1, "weight": 1.0}
    return [
        example(f"perplexity/{protocol}/made/{length}", i, **about, nll=(loss + 0.5 * float(hard[i])) * (length - 1),
                piece=i // 4, document=i // 4, start=0)
        for i in range(n)
    ]  # fmt: skip
