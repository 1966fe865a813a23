"""Text that needles are hidden in, and documents whose perplexity is measured."""

import json

import numpy as np

from longjax.evals.synthetic import prose
from longjax.evals.synthetic.settings import Files, SyntheticConfig, to_jsonl

ESSAYS = 8
DOCUMENTS = 12  # one more than the study's protocol reads
LONGER = 5  # than other texts: windows lie within documents


def files(world: SyntheticConfig) -> Files:
    for i in range(ESSAYS):
        rng = world.rng("haystack", i)
        yield f"haystack/essay_{i}.txt", _essay(rng, world.haystack // ESSAYS).encode()
    texts = [prose.prose_text(rng, LONGER * world.words) for rng in documents(world)]
    yield "perplexity/prose.jsonl", to_jsonl({"text": text, "id": i} for i, text in enumerate(texts))
    if world.tokenizer is not None:
        yield from _tokens(world, texts)


def documents(world: SyntheticConfig):
    return (world.rng("perplexity", i) for i in range(max(DOCUMENTS, world.examples)))


def _essay(rng, characters: int) -> str:
    made, count = [], 0
    while count < characters:
        made.append(prose.filler_sentence(rng))
        count += len(made[-1]) + 1
    return prose.paragraphs(made) + "\n"


def _tokens(world: SyntheticConfig, texts: list[str]) -> Files:
    """Flat tokens, each document opened by the tokenizer's first token."""
    tokenizer = world.tokenizer
    assert tokenizer is not None
    if tokenizer.bos_id < 0:
        raise ValueError(f"--tokenizer={tokenizer.path} has no token that opens a text, with which documents start")
    kind = np.uint16 if tokenizer.vocab <= 1 << 16 else np.uint32
    ids = np.concatenate([x for text in texts for x in ([tokenizer.bos_id], tokenizer.encode(text))])
    yield "perplexity/prose_tokens.bin", ids.astype(kind).tobytes()
    about = {"dtype": np.dtype(kind).name, "tokenizer_sha256": tokenizer.sha256, "documents": len(texts)}
    yield "perplexity/prose_tokens.json", (json.dumps(about) + "\n").encode()
