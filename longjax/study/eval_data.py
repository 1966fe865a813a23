"""Writes the files that the tests of a study read: text that no training has seen, and synthetic questions."""

import json
import pathlib
from collections.abc import Iterable, Iterator

from longjax import files
from longjax.data import TokenStore
from longjax.data.tokenizer import Tokenizer
from longjax.evals.synthetic import ruler, trec
from longjax.evals.synthetic.settings import SyntheticConfig
from longjax.locks import locked

MANIFEST = "manifest.json"  # written last
MAX_CHARACTERS = 8_000_000
PARAGRAPH_WORDS = 1600 // 6  # words of the documents in RULER's question-answering tasks


def write_eval_data(folder: pathlib.Path, store: TokenStore, split: str, tokenizer: Tokenizer, seed: int) -> None:
    """Writes a data directory for benchmarks (see `longjax.evals.context.EvalContext`), unless it exists.

    The documents of `split` are the haystack of the needle tasks and the text for perplexity; documents with questions,
    and questions with types, come from a small grammar.

    Args:
      folder: the directory.
      store: the study's tokens.
      split: one of the store's splits.
      tokenizer: of the store.
      seed: of the grammar.

    """
    if (folder / MANIFEST).exists():
        return
    with locked(folder, "--run_dir", wait=True):
        if not (folder / MANIFEST).exists():
            write_held(folder, store, split, tokenizer, seed)


def write_held(folder: pathlib.Path, store: TokenStore, split: str, tokenizer: Tokenizer, seed: int) -> None:
    """Writes the data directory, which is held."""
    manifest = {"split": split, "seed": seed, "tokens": store.sha256}
    synthetic = SyntheticConfig(seed, 6 * PARAGRAPH_WORDS, examples=100, haystack=0)
    text_files = held_out_files(texts_of_split(store, split, tokenizer))
    with files.atomic_files(folder) as create:
        for name, content in [*text_files, *ruler.files(synthetic), *trec.files(synthetic)]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            create(name).write(content)
        create(MANIFEST).write((json.dumps(manifest) + "\n").encode())


def texts_of_split(store: TokenStore, split: str, tokenizer: Tokenizer) -> Iterator[str]:
    """Yields the first documents of a split as text, at most MAX_CHARACTERS in all."""
    left = MAX_CHARACTERS
    for ids in store.documents(split):
        text = tokenizer.decode(ids[:-1] if ids[-1:] == tokenizer.eos_id else ids)[:left]
        left -= len(text)
        yield text
        if left <= 0:
            return


def held_out_files(documents: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yields (name, content) of the haystack and of the text for perplexity."""
    documents = list(documents)
    yield "haystack/held_out.txt", "\n".join(documents).encode()
    yield "perplexity/held_out.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in documents).encode()
