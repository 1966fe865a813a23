"""Golden check of the windows in which lm_eval reads a long text through our adapter."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from golden_checks.common import Result

NAME = "lm_eval_rolling_windows.jsonl"
FAMILY = "lm_eval_windows"
Row = dict[str, Any]


def is_windows(folder: Path) -> bool:
    return (folder / NAME).exists()


def results(folder: Path) -> Iterator[Result]:
    """Return a result for each row; none, and a warning, where lm_eval is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        logging.warning("%s: not checked, lm_eval is not installed (pip install longjax[harness])", folder / NAME)
        return
    for number, line in enumerate((folder / NAME).read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            faults = list(differences(row))
            yield Result(FAMILY, f"row {row['id']}", float(len(faults)), 0.0, "; ".join(faults))
        except Exception as error:
            yield Result(FAMILY, f"line {number}", float("inf"), 0.0, f"{type(error).__name__}: {error}")


class FixedTokenizer:
    """A tokenizer that returns the row's tokens for any text."""

    eos_id = 2

    def __init__(self, row: Row):
        self.bos_id, self.ids = row["prefix_token"], np.array(row["tokens"], np.int32)

    def encode(self, text: str) -> np.ndarray:
        return self.ids


def differences(row: Row) -> Iterator[str]:
    """Yield where the adapter differs from the row."""
    from longjax.evals.harness.adapter import HarnessModel, disjoint_windows

    def never(questions: Any) -> Any:
        raise AssertionError("nothing is asked here")

    adapter = HarnessModel(never, FixedTokenizer(row), row["max_seq_len"])  # pyright: ignore[reportArgumentType]
    pairs = disjoint_windows(row["tokens"], row["prefix_token"], row["max_seq_len"], row["context_len"])
    if [[*pair] for pair in pairs] != row["disjoint"]:
        yield "disjoint windows"
    questions = [adapter.loglikelihood_request((None, *pair)) for pair in pairs]
    if [[q.tokens_T[:-1].tolist(), q.tokens_T[q.first_scored :].tolist()] for q in questions] != row["windows"]:
        yield "what the model reads and what is scored"
    if row["context_len"] == 1 and [[*window[1:]] for window in adapter.windows("any")] != row["disjoint"]:
        yield "windows of a text"
