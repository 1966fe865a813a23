"""What evaluators ask of in a study: text that no training has seen, and self-made questions and examples."""

import json
import pathlib
from collections.abc import Iterable, Iterator

from longjax import files
from longjax.data import TokenStore
from longjax.data.tokenizer import Tokenizer
from longjax.evals.synthetic import ruler, trec
from longjax.evals.synthetic.settings import SyntheticConfig

MANIFEST = "manifest.json"  # written last
MOST = 8_000_000  # characters
PARAGRAPH = 1600 // 6  # words of a document that RULER's questions ask about


def write_eval_data(folder: pathlib.Path, store: TokenStore, split: str, tokenizer: Tokenizer, seed: int) -> None:
    """Writes a data directory of evaluators (see evals/material.py), unless it is there.

    The documents of `split` are the text that needles are hidden in and that perplexity is measured on; questions
    over documents and typed questions come from a small grammar, by `seed`.
    """
    about = {"split": split, "seed": seed, "tokens": store.sha256}
    world = SyntheticConfig(seed, 6 * PARAGRAPH, examples=100, haystack=0)
    if (folder / MANIFEST).exists():
        return
    with files.atomic_files(folder) as create:
        for name, content in [
            *of_text(held_out_texts(store, split, tokenizer)),
            *ruler.files(world),
            *trec.files(world),
        ]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            create(name).write(content)
        create(MANIFEST).write((json.dumps(about) + "\n").encode())


def held_out_texts(store: TokenStore, split: str, tokenizer: Tokenizer) -> Iterator[str]:
    """-> the first documents, about MOST characters."""
    left = MOST
    for ids in store.documents(split):
        text = tokenizer.decode(ids[:-1] if ids[-1:] == tokenizer.eos_id else ids)[:left]
        left -= len(text)
        yield text
        if left <= 0:
            return


def of_text(documents: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    documents = list(documents)
    yield "haystack/held_out.txt", "\n".join(documents).encode()
    yield "perplexity/held_out.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in documents).encode()
