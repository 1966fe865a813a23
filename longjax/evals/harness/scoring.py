"""What is kept of lm_eval's answers, one record an example, and the rows that are made of them."""

import collections
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from longjax.evals.harness.catalog import ShortTask
from longjax.evals.requests import Record, finite_or_none
from longjax.files import sha256_bytes

Measure = Callable[[Any], tuple[int, int]]  # a request's arguments -> tokens of its prompt, tokens cut from it


def sample_records(name: str, task: ShortTask, samples: Sequence[Record], measure: Measure) -> list[Record]:
    """-> a record an example; lm_eval has one an example and filter."""
    by_doc: dict[int, list[Record]] = collections.defaultdict(list)
    for sample in samples:
        by_doc[sample["doc_id"]].append(sample)
    return [_record(name, task, index, by_doc[index], measure) for index in sorted(by_doc)]


def _record(name: str, task: ShortTask, index: int, samples: Sequence[Record], measure: Measure) -> Record:
    arguments = samples[0]["arguments"]
    size, cut = measure(arguments[0])
    return {
        "task": f"short/{name}",
        "index": index,
        "group": task.name,
        "references": str(samples[0]["target"]),
        "n_prompt_tokens": size,
        "n_truncated": cut,
        "prompt_sha256": sha256_bytes(json.dumps(arguments)),
        "said": [_plain(said[0]) for said in samples[0]["resps"]],
        "main": task.main,
        "metrics": {
            _key(metric, x["filter"]): finite_or_none(float(x[metric])) for x in samples for metric in x["metrics"]
        },
    }


def _plain(said: Any) -> Any:
    """-> a text, or the log-probability of a choice and whether greedy decoding would say it."""
    return said if isinstance(said, str) else [finite_or_none(float(said[0])), bool(said[1])]


def _key(metric: str, which: str) -> str:
    """lm_eval's own names, without the filter that does nothing."""
    return metric if which == "none" else f"{metric},{which}"


def score(records: Sequence[Record]) -> list[Record]:
    """-> a row a task and metric; MMLU also has one over all questions of all subjects."""
    tasks: dict[str, list[Record]] = collections.defaultdict(list)
    for record in records:
        for name in dict.fromkeys([record["group"], record["task"].removeprefix("short/")]):
            tasks[name].append(record)
    return [row(name, metric, found) for name, found in tasks.items() for metric in metrics(found[0])]


def metrics(record: Record) -> list[str]:
    """-> the one that tables show, then the others."""
    return [record["main"], *(metric for metric in record["metrics"] if metric != record["main"])]


def row(name: str, metric: str, records: Sequence[Record]) -> Record:
    """Examples whose metric is no number (a model that says NaN) count as failed, and in `nan`."""
    values = [record["metrics"][metric] for record in records]
    x_I = np.array([0.0 if value is None else value for value in values])
    error = float(x_I.std(ddof=1) / np.sqrt(len(x_I))) if len(x_I) > 1 else None
    return {
        "benchmark": "short", "task": name, "length": None, "metric": metric, "main": metric == records[0]["main"],
        "value": float(x_I.mean()), "stderr": error, "n": len(x_I), "nan": sum(value is None for value in values),
        "truncated": float(np.mean([record["n_truncated"] > 0 for record in records])),
    }  # fmt: skip
