"""Truncation of long prompts in their middle, as in LongBench and the study's code."""

import numpy as np

from longjax.evals.context import EvalContext


def truncate_middle(ctx: EvalContext, prompt: str, max_length: int) -> tuple[np.ndarray, int]:
    """Tokenize a prompt, and cut tokens out of its middle if it is too long.

    Both halves are decoded and the text is encoded again: the token that opens a text is dropped and set again,
    blanks at the seam may be lost, and there may be a token or two more or fewer than `max_length`.

    Args:
      ctx: names the tokenizer.
      prompt: the text.
      max_length: in tokens.

    Returns:
      ids_T, and the number of tokens that were cut out.

    """
    ids = ctx.ids(prompt)
    if len(ids) <= max_length:
        return ids, 0
    half = max_length // 2
    text = "".join(ctx.tokenizer.decode_text(part) for part in (ids[:half], ids[-half:]))
    return ctx.ids(text), len(ids) - 2 * half


def truncate_to_lengths(ctx: EvalContext, prompt: str, max_new_tokens: int) -> tuple[np.ndarray, int]:
    """Tokenize a prompt as `truncate_middle`, so that with its answer it fits into the longest of the lengths.

    If its answer takes more than half of that, the prompt has the other half, and is too long with it.
    """
    longest = max(ctx.lengths)
    room = max_length = max(longest - max_new_tokens, longest // 2)
    ids, n_truncated = truncate_middle(ctx, prompt, max_length)
    while len(ids) > room and max_length > 3:  # tokens that the seam has added
        max_length = max(max_length - (len(ids) - room), 2)
        ids, n_truncated = truncate_middle(ctx, prompt, max_length)
    return ids, n_truncated
