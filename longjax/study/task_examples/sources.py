"""What drills are made of: text that may be trained on, and self-made questions that no evaluation asks."""

import os
import pathlib

from longjax import files
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.synthetic import ruler, trec
from longjax.evals.synthetic.settings import SyntheticConfig

SEED_OFFSET = 1_000_000  # added to seeds: those of evaluations are smaller
WORDS, EXAMPLES = 300, 400  # of documents, about; questions of a kind


def prepare_sources(
    folder: str | os.PathLike, text: str, tokenizer: Tokenizer, lengths: tuple[int, ...], seed: int
) -> EvalContext:
    """Writes a data directory around `text`, in which needles will be hidden.

    Args:
      folder: to write.
      text: of the training split.
      tokenizer: of the model.
      lengths: of drills in tokens, at most.
      seed: of the study.

    """
    root = pathlib.Path(folder)
    world = SyntheticConfig(seed + SEED_OFFSET, WORDS, EXAMPLES, 0)
    files.write_atomically(root / "haystack" / "train.txt", text.encode())
    for benchmark in (ruler, trec):
        for name, data in benchmark.files(world):
            files.write_atomically(root / name, data)
    return EvalContext(root, tokenizer, lengths, seed + SEED_OFFSET)
