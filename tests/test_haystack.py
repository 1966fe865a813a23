"""The haystack of needles and pass keys: the same tokens whether much of the text is needed or little."""

import pathlib

import numpy as np
import pytest

from longjax.data.tokenizer import Tokenizer
from longjax.evals.haystack import Haystack

TOKENIZER = Tokenizer(pathlib.Path(__file__).parents[1] / "longjax" / "bases" / "mini")
TEXT = "Essays have words, and lines.\n\nThey end:  here (or not). " * 40


@pytest.mark.parametrize("text", [TEXT, TEXT * 100, "ab", "一二。三四五。" * 3000])
@pytest.mark.parametrize("count", [1, 700, 5000])
def test_the_first_tokens_are_those_of_the_whole_text(text, count):
    times = 1 + 8 * count // len(text)
    whole = TOKENIZER.encode(text * max(times, 2))
    while len(whole) < count:
        whole = TOKENIZER.encode(text * (times := 2 * times))
    np.testing.assert_array_equal(Haystack("x", "", text).tokens(TOKENIZER, count), whole[:count])


def test_of_a_long_text_only_the_beginning_is_read():
    few = Haystack("x", "", "word. " * 1_000_000).repeated(TOKENIZER, 1000)
    assert len(few) < 20_000
