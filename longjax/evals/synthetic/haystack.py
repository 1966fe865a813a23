"""Text in which needles are hidden, and documents for perplexity."""

import json
import random
from collections.abc import Iterator

import numpy as np

from longjax.evals.synthetic import prose
from longjax.evals.synthetic.settings import Files, SyntheticConfig, to_jsonl

ESSAYS = 8
DOCUMENTS = 12  # one more than the study's protocol reads
LENGTH_RATIO = 5  # of these documents to other texts, since windows lie within documents


def files(config: SyntheticConfig) -> Files:
    """Yield haystack/*.txt, perplexity/prose.jsonl and, with a tokenizer, perplexity/prose_tokens.bin."""
    for i in range(ESSAYS):
        rng = config.rng("haystack", i)
        yield f"haystack/essay_{i}.txt", _essay(rng, config.haystack // ESSAYS).encode()
    texts = [prose.prose_text(rng, LENGTH_RATIO * config.words) for rng in document_rngs(config)]
    yield "perplexity/prose.jsonl", to_jsonl({"text": text, "id": i} for i, text in enumerate(texts))
    if config.tokenizer is not None:
        yield from _tokens(config, texts)


def document_rngs(config: SyntheticConfig) -> Iterator[random.Random]:
    """Yield a generator for each document."""
    return (config.rng("perplexity", i) for i in range(max(DOCUMENTS, config.examples)))


def _essay(rng: random.Random, characters: int) -> str:
    sentences, count = [], 0
    while count < characters:
        sentences.append(prose.filler_sentence(rng))
        count += len(sentences[-1]) + 1
    return prose.paragraphs(sentences) + "\n"


def _tokens(config: SyntheticConfig, texts: list[str]) -> Files:
    """-> flat tokens, in which each document begins with BOS."""
    tokenizer = config.tokenizer
    assert tokenizer is not None
    if tokenizer.bos_id < 0:
        raise ValueError(f"--tokenizer={tokenizer.path} has no token that opens a text, with which documents begin")
    kind = np.uint16 if tokenizer.vocab <= 1 << 16 else np.uint32
    ids = np.concatenate([x for text in texts for x in ([tokenizer.bos_id], tokenizer.encode(text))])
    yield "perplexity/prose_tokens.bin", ids.astype(kind).tobytes()
    metadata = {"dtype": np.dtype(kind).name, "tokenizer_sha256": tokenizer.sha256, "documents": len(texts)}
    yield "perplexity/prose_tokens.json", (json.dumps(metadata) + "\n").encode()
