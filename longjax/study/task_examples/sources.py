"""The sources of task examples: text of the training split, and synthetic questions that no test uses."""

import os
import pathlib

from longjax import files
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.synthetic import ruler, trec
from longjax.evals.synthetic.settings import SyntheticConfig

SEED_OFFSET = 1_000_000  # the seeds of tests are smaller
WORDS, EXAMPLES = 300, 400  # about so many words per document; questions of each kind


def prepare_sources(
    folder: str | os.PathLike, text: str, tokenizer: Tokenizer, lengths: tuple[int, ...], seed: int
) -> EvalContext:
    """Writes a data directory around a text, in which needles will be hidden.

    Args:
      folder: to write.
      text: of the training split.
      tokenizer: of the model.
      lengths: maximum lengths of task examples, in tokens.
      seed: of the study.

    Returns:
      The context for `write_examples`.

    """
    root = pathlib.Path(folder)
    synthetic = SyntheticConfig(seed + SEED_OFFSET, WORDS, EXAMPLES, 0)
    files.write_atomically(root / "haystack" / "train.txt", text.encode())
    for benchmark in (ruler, trec):
        for name, content in benchmark.files(synthetic):
            files.write_atomically(root / name, content)
    return EvalContext(root, tokenizer, lengths, seed + SEED_OFFSET)
