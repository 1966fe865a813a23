"""A tokenizer: trained on the documents at hand, or any that exists."""

import functools
import io
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

from longjax.data.corpus import Document
from longjax.data.tokenizer_backends import HuggingFaceBackend, SentencePieceBackend, TokenizerBackend
from longjax.files import sha256_file, write_atomically

GROUP = 4000  # characters encoded at once: sentencepiece is superlinear in length
SAMPLE = (  # all that could make a group's ids depend on its neighbours
    "\nThe first line.\n\n\n  Two spaces, then a tab\there \n\t\tdef f(x, *y):\n\n        return {x: 1234.5}  # so\n"
    "caf\u00e9 na\u00efve \u4e2d\u6587 \U0001f600\u00a0\u200b e\u0301\r\n\r\n- item\n - item\n.\n, and so on \n \n  \n"
    "123 456\nthe the\nThe\n<s> </s> <unk> [INST]\n### Title ###\n----\n====\n    \n\n\n\nEnd.\n"
)
OFTEN = 3000  # repetitions of a phrase: its words become pieces even among the few of a tiny vocabulary


class Tokenizer:
    """Text to ids and back, by the sentencepiece model or the tokenizer.json in a file, or in a folder.

    Long texts are encoded in groups of whole lines, which is many times faster, where that provably changes no id.
    """

    def __init__(self, path: str | os.PathLike, threads: int | None = None):
        self.path = _file(pathlib.Path(path))
        backend = HuggingFaceBackend if self.path.suffix == ".json" else SentencePieceBackend
        self.backend: TokenizerBackend = backend(self.path, threads or os.cpu_count() or 1)

    @functools.cached_property
    def sha256(self) -> str:
        return sha256_file(self.path)

    @property
    def vocab(self) -> int:
        return self.backend.vocab

    @property
    def bos_id(self) -> int:
        """The id that opens a document; -1: there is none."""
        return self.backend.bos_id

    @property
    def eos_id(self) -> int:
        """The id that closes a document; -1: there is none."""
        return self.backend.eos_id

    def encode(self, text: str) -> np.ndarray:
        """-> ids, int32: those of the whole text. Raises UnicodeError for halves of surrogate pairs."""
        text.encode()
        extra = self._extra
        groups = self.backend.encode([text] if extra is None else split_lines(text))
        parts = [np.asarray(ids[extra if i else 0 :], np.int32) for i, ids in enumerate(groups)]
        return np.concatenate(parts or [np.zeros(0, np.int32)])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self.backend.decode([int(i) for i in ids])

    @functools.cached_property
    def _extra(self) -> int | None:
        """How many ids too many a group has that begins with a line's end; None: groups do not add up to the whole.

        A LLaMA tokenizer puts a space before every text it is given, so that each group but the first has one too
        many. Merges across lines' ends (Llama-3) or folded spaces make the groups' ids others than the text's.
        """
        (alone,), (whole,) = self.backend.encode(["\n"]), self.backend.encode([SAMPLE])
        extra = len(alone) - 1
        groups = self.backend.encode(split_lines(SAMPLE, 0))
        same = [i for g, ids in enumerate(groups) for i in ids[extra if g else 0 :]] == whole
        return extra if extra >= 0 and same else None


def _file(path: pathlib.Path) -> pathlib.Path:
    """-> the tokenizer's file; of a folder, the one in it."""
    names = [path / "tokenizer.model", path / "tokenizer.json"] if path.is_dir() else [path]
    found = next((name for name in names if name.is_file()), None)
    if found is None:
        raise ValueError(f"there is no tokenizer {path}: name a sentencepiece .model file or a tokenizer.json")
    return found


def split_lines(text: str, size: int = GROUP) -> list[str]:
    """-> the text in groups of whole lines of about `size` characters; all but the first begin with a line's end."""
    groups, start = [], 0
    while start < len(text):
        end = text.find("\n", start + max(size, 1))
        end = len(text) if end < 0 else end
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
    write_atomically(pathlib.Path(path), model.getvalue())
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


def encode_inside(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """-> its ids within a longer text: without the space that LLaMA's tokenizers put before every text."""
    for before in ("\n", "7", ""):  # after which a tokenizer may not stop, as Llama-3's does not between line ends
        head = tokenizer.encode(before).tolist()
        ids = tokenizer.encode(before + text).tolist()
        if ids[: len(head)] == head:
            return tuple(ids[len(head) :])
    raise AssertionError("nothing is before")
