"""The best answer to a benchmark's request, in the form that its prompt asks for."""

from collections.abc import Sequence

import numpy as np

from longjax.data.tokenizer import Tokenizer
from longjax.evals.requests import LoglikelihoodRequest, Record, Request
from longjax.evals.ruler.cwe import numbered
from longjax.study.task_examples.dataset import SolvedTask


def solve(request: Request, tokenizer: Tokenizer) -> SolvedTask:
    """Returns the prompt of a request, its best answer, and the token that closes a document, if there is one."""
    eos = np.array([tokenizer.eos_id] if tokenizer.eos_id >= 0 else [], np.int32)
    if isinstance(request, LoglikelihoodRequest):  # it holds its answer already
        return SolvedTask(np.concatenate([request.tokens_T, eos]), request.first_scored)
    answer = np.array(tokenizer.encode_inside(best_answer(request.metadata)), np.int32)
    return SolvedTask(np.concatenate([request.tokens_T, answer, eos]), len(request.tokens_T))


def best_answer(metadata: Record) -> str:
    """Returns the answer that gets full marks, with the space before it unless the prompt ends with one."""
    if "answer" in metadata:  # needles
        return f" {metadata['answer']}"
    if "answers" in metadata:  # many-shot classification
        return f" {metadata['answers'][0]}"
    outputs, task = metadata["references"], metadata["ruler_task"]
    if task == "vt":
        return " ".join(outputs)
    if task == "cwe":
        return f" {numbered(outputs)}"
    if task.startswith("qa"):
        return f" {outputs[0]}"
    if "keys" in metadata:
        outputs = in_text_order(outputs, metadata["depths"], len(metadata["keys"]))
    return " " + ", ".join(outputs)


def in_text_order(values: Sequence[str], depths: Sequence[float], keys: int) -> list[str]:
    """Returns the values of each key in the order of the text: any order is right, but only this one is learnable."""
    per_key = len(values) // keys
    order = sorted(range(len(values)), key=lambda i: (i // per_key, depths[i]))
    return [values[i] for i in order]
