"""Records of lm_eval's samples, one for each example, and the rows that are made of them."""

import collections
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from longjax.evals.harness.catalog import ShortTask
from longjax.evals.requests import Record, finite_or_none
from longjax.files import sha256_bytes

Measure = Callable[[Any], tuple[int, int]]  # a request's arguments -> tokens of its prompt, and those cut from it


def sample_records(name: str, task: ShortTask, samples: Sequence[Record], measure: Measure) -> list[Record]:
    """Return a record for each example; lm_eval has a sample for each example and filter."""
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
        "said": [_plain(response[0]) for response in samples[0]["resps"]],
        "main": task.main,
        "metrics": {
            _key(metric, x["filter"]): finite_or_none(float(x[metric])) for x in samples for metric in x["metrics"]
        },
    }


def _plain(response: Any) -> Any:
    """-> a text, or the log-likelihood of a choice and whether greedy decoding gives it."""
    return response if isinstance(response, str) else [finite_or_none(float(response[0])), bool(response[1])]


def _key(metric: str, filter_name: str) -> str:
    """-> lm_eval's name of a metric, without the filter that does nothing."""
    return metric if filter_name == "none" else f"{metric},{filter_name}"


def score(records: Sequence[Record]) -> list[Record]:
    """Return a row for each task and metric; MMLU also has rows over the questions of all subjects."""
    tasks: dict[str, list[Record]] = collections.defaultdict(list)
    for record in records:
        for name in dict.fromkeys([record["group"], record["task"].removeprefix("short/")]):
            tasks[name].append(record)
    return [metric_row(name, metric, group) for name, group in tasks.items() for metric in metric_names(group[0])]


def metric_names(record: Record) -> list[str]:
    """Return the metric that tables show, then the others."""
    return [record["main"], *(metric for metric in record["metrics"] if metric != record["main"])]


def metric_row(name: str, metric: str, records: Sequence[Record]) -> Record:
    """Return the row of a metric; examples whose metric is not finite count as 0, and in `nan`."""
    values = [record["metrics"][metric] for record in records]
    x_I = np.array([0.0 if value is None else value for value in values])
    error = float(x_I.std(ddof=1) / np.sqrt(len(x_I))) if len(x_I) > 1 else None
    return {
        "benchmark": "short", "task": name, "length": None, "metric": metric, "main": metric == records[0]["main"],
        "value": float(x_I.mean()), "stderr": error, "n": len(x_I), "nan": sum(value is None for value in values),
        "truncated": float(np.mean([record["n_truncated"] > 0 for record in records])),
    }  # fmt: skip
