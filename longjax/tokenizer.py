"""A sentencepiece tokenizer: trained on the documents at hand, or any that exists."""

import functools
import hashlib
import io
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

from longjax.text import Document

GROUP = 4000  # characters encoded at once: sentencepiece is superlinear in length
OFTEN = 3000  # repetitions of a phrase: its words become pieces even among the few of a tiny vocabulary


class Tokenizer:
    """Text to ids and back, by the sentencepiece model in a file."""

    def __init__(self, path: str | os.PathLike):
        if not pathlib.Path(path).is_file():
            raise ValueError(f"there is no tokenizer {path}")
        self.model = pathlib.Path(path).read_bytes()
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=self.model)

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.model).hexdigest()

    @property
    def vocab(self) -> int:
        return self.pieces.vocab_size()

    @property
    def end(self) -> int:
        """The id that ends a document."""
        return self.pieces.eos_id()

    def encode(self, text: str) -> np.ndarray:
        """-> ids, int32. What is encoded together are whole lines: see `lines`."""
        groups = self.pieces.encode(lines(text), num_threads=os.cpu_count() or 1)
        return np.concatenate([np.asarray(ids, np.int32) for ids in groups] or [np.zeros(0, np.int32)])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self.pieces.decode([int(i) for i in ids])


def lines(text: str, size: int = GROUP) -> list[str]:
    """-> the text in groups of whole lines of about `size` characters.

    A tokenizer of `train` has one piece for a line's end, so that no piece crosses it and the grouping does
    not change the ids. For other tokenizers the ids are those of the groups.
    """
    groups, start = [], 0
    while start < len(text):
        end = text.find("\n", start + size) + 1 or len(text)
        groups.append(text[start:end])
        start = end
    return groups


def train(
    documents: Iterable[Document],
    path: str | os.PathLike,
    vocab: int = 1024,
    phrases: Sequence[str] = (),
    characters: int = 1_500_000,
) -> Tokenizer:
    """Trains on an even sample of the documents' lines and writes the model to `path`.

    Digits stand alone, a line's end is a piece, and bytes cover what is rare, so that every text comes back
    unchanged. `phrases` are sentences of synthetic data, which shall not fall to pieces either.
    """
    if vocab < 400:
        raise ValueError(f"--vocab={vocab} must be at least 400: 256 bytes, the letters, and some words")
    model = io.BytesIO()
    try:
        _train(iter(_sample(documents, characters) + [*phrases] * OFTEN), model, vocab)
    except RuntimeError as error:  # too little text
        raise ValueError(f"--vocab={vocab}: sentencepiece says {str(error).splitlines()[-1]}") from error
    new = pathlib.Path(f"{path}.new")
    new.write_bytes(model.getvalue())
    new.replace(path)
    return Tokenizer(path)


def _train(sentences, model, vocab):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab,
        byte_fallback=True,
        character_coverage=0.9999,
        required_chars="0123456789",
        split_digits=True,
        user_defined_symbols=["\n"],
        allow_whitespace_only_pieces=True,  # indentation
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        num_threads=2,  # any number gives the same model
        minloglevel=2,
    )


def _sample(documents: Iterable[Document], characters: int) -> list[str]:
    """-> every n-th line of the text, about so many characters."""
    text = [line for document in documents for line in document.text.split("\n") if line.strip()]
    return text[:: max(1, sum(map(len, text)) // characters)]
