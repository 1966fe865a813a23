"""Prompts that are too long lose their middle, as in LongBench and the study's code."""

import numpy as np

from longjax.evals.context import EvalContext


def truncate_middle(material: EvalContext, prompt: str, most: int) -> tuple[np.ndarray, int]:
    """-> ids_T, and how many of the prompt's were left out.

    Both halves are turned into text, and the text into ids again: the token that opens a text is dropped and set again,
    blanks at the seam may be lost, and there may be a token or two more or fewer than `most`.
    """
    ids = material.ids(prompt)
    if len(ids) <= most:
        return ids, 0
    half = most // 2
    text = "".join(decode_plain(material, part) for part in (ids[:half], ids[-half:]))
    return material.ids(text), len(ids) - 2 * half


def decode_plain(material: EvalContext, ids: np.ndarray) -> str:
    """-> their text, without what opens and closes one."""
    special = (material.tokenizer.bos_id, material.tokenizer.eos_id)
    return material.tokenizer.decode(ids[~np.isin(ids, special)])
