"""The best answer to an evaluator's question, in the form that its prompt asks for."""

from collections.abc import Sequence

import numpy as np

from longjax.data.tokenizer import Tokenizer, encode_inside
from longjax.evals.requests import LoglikelihoodRequest, Record, Request
from longjax.evals.ruler.cwe import numbered
from longjax.study.task_examples.dataset import SolvedTask


def solved(question: Request, tokenizer: Tokenizer) -> SolvedTask:
    """-> the question, its best answer, and the token that ends a text. Likelihoods hold their answer already."""
    end = np.array([tokenizer.eos_id] if tokenizer.eos_id >= 0 else [], np.int32)
    if isinstance(question, LoglikelihoodRequest):
        return SolvedTask(np.concatenate([question.tokens_T, end]), question.first)
    answer = np.array(encode_inside(tokenizer, best_answer(question.metadata)), np.int32)
    return SolvedTask(np.concatenate([question.tokens_T, answer, end]), len(question.tokens_T))


def best_answer(about: Record) -> str:
    """-> what is best said, with the space before it unless the prompt ends with one."""
    if "answer" in about:  # needles
        return f" {about['answer']}"
    if "answers" in about:  # classes of questions
        return f" {about['answers'][0]}"
    said, task = about["references"], about["ruler_task"]
    if task == "vt":
        return " ".join(said)
    if task == "cwe":
        return f" {numbered(said)}"
    if task.startswith("qa"):
        return f" {said[0]}"
    return " " + ", ".join(in_order(said, about["depths"], len(about["keys"])) if "keys" in about else said)


def in_order(said: Sequence[str], depths: Sequence[float], keys: int) -> list[str]:
    """-> the values of each key as they come in the text: any order is right, this one can be known."""
    each = len(said) // keys
    order = sorted(range(len(said)), key=lambda i: (i // each, depths[i]))
    return [said[i] for i in order]
