"""Tokenizers: text to ids and back, with any sentencepiece model or tokenizer.json; or trained on documents."""

import functools
import io
import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

from longjax.data.corpus import Document
from longjax.data.tokenizer_backends import TokenizerBackend, open_backend
from longjax.files import fingerprint_json, sha256_file, write_atomically

GROUP = 4000  # characters encoded at once: sentencepiece is superlinear in length
SAMPLE = (  # everything that could make a group's ids depend on its neighbors
    "\nThe first line.\n\n\n  Two spaces, then a tab\there \n\t\tdef f(x, *y):\n\n        return {x: 1234.5}  # so\n"
    "caf\u00e9 na\u00efve \u4e2d\u6587 \U0001f600\u00a0\u200b e\u0301\r\n\r\n- item\n - item\n.\n, and so on \n \n  \n"
    "123 456\nthe the\nThe\n<s> </s> <unk> [INST]\n### Title ###\n----\n====\n    \n\n\n\nEnd.\n"
)
PHRASE_REPETITIONS = 3000  # so often that the words of a phrase become pieces even of a tiny vocabulary


class Mark(str):
    """A control token of a template. In texts, the same characters are text."""


class Tokenizer:
    """A sentencepiece model or a tokenizer.json, with what the files beside it add.

    Long texts are encoded in groups of whole lines, which is many times faster, where that provably changes no id.

    Args:
      path: the file, or a folder with tokenizer.model or tokenizer.json.
      threads: of the tokenizer library; None: one per core.
      opening: token that opens every text; "": as the tokenizer itself adds it; "none": no token.

    Raises:
      ValueError: there is no such file, it is damaged, or two files contradict each other; no token is `opening`.

    """

    def __init__(self, path: str | os.PathLike, threads: int | None = None, opening: str = ""):
        self.backend: TokenizerBackend = open_backend(pathlib.Path(path), threads or os.cpu_count() or 1)
        self.path, self.opening = self.backend.path, opening
        if opening not in ("", "none") and self.backend.find(opening) is None:
            raise ValueError(f"--opening={opening}: {self.path} has no such token; none opens texts with no token")

    def __reduce__(self):
        """Another process opens the same file, with one thread."""
        return Tokenizer, (self.path, 1, self.opening)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the file, and of the tokens that other files add to it."""
        own, added = sha256_file(self.path), self.backend.added
        return fingerprint_json([own, added]) if added else own

    @property
    def vocab(self) -> int:
        """Vocabulary size: one more than the largest id."""
        return self.backend.vocab

    @functools.cached_property
    def bos_id(self) -> int:
        """The id that opens every text, as the tokenizer itself adds it; -1: it adds none."""
        if self.opening == "none":
            return -1
        if self.opening:
            return self.id_of(self.opening)
        if len(self.backend.opening) > 1:
            raise ValueError(f"{self.path} opens texts with {len(self.backend.opening)} tokens: name one by --opening")
        return next(iter(self.backend.opening), -1)

    @property
    def eos_id(self) -> int:
        """The id that closes a document; -1: there is none."""
        return self.backend.eos_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """All ids that end a generation: the tokenizer's, and those of generation_config.json or config.json."""
        return self.backend.eos_ids

    def id_of(self, token: str) -> int:
        """Returns the id of a token. Raises ValueError if there is none of that text."""
        if (i := self.backend.find(token)) is None:
            raise ValueError(f"{self.path} has no token {token!r}")
        return i

    def encode_parts(self, parts: Iterable[str]) -> np.ndarray:
        """Returns the ids of texts and marks in a row, int32; texts without a mark between them are one text."""
        parts, ids, mark = [*parts], [], ""
        for is_mark, run in itertools.groupby(parts, lambda part: isinstance(part, Mark)):
            if is_mark:
                ids += map(self.id_of, marks := [*run])
                mark = marks[-1]
                continue
            if not mark or self.id_of(mark) == self.bos_id or self.backend.begins_anew(mark):
                new = self.encode("".join(run)).tolist()
            else:  # without the blank that LLaMA's tokenizers put before a whole text only
                new = self.encode_inside("".join(run))
            if found := [x for x in parts if isinstance(x, Mark) and self.id_of(x) in new]:
                raise ValueError(f"with {found[0]} in a text, which the tokenizer does not call a special token")
            ids += new
        return np.array(ids, np.int32)

    def encode(self, text: str, bos: bool = False) -> np.ndarray:
        """Returns the ids of the whole text, int32; with `bos`, after the id that opens a document, if there is one.

        Raises UnicodeError for halves of surrogate pairs.
        """
        text.encode()
        extra = self._extra
        groups = self.backend.encode([text] if extra is None else split_lines(text))
        parts = [np.asarray(ids[extra if i else 0 :], np.int32) for i, ids in enumerate(groups)]
        head = [self.bos_id] if bos and self.bos_id >= 0 else []
        return np.concatenate([np.array(head, np.int32), *parts])

    def encode_inside(self, text: str) -> tuple[int, ...]:
        """Returns the ids that `text` has within a longer text: without the space that LLaMA's tokenizers put first."""
        for before in ("\n", "7", ""):  # Llama-3's tokenizer may merge line ends, so that "\n" is no boundary
            head = self.encode(before).tolist()
            ids = self.encode(before + text).tolist()
            if ids[: len(head)] == head:
                return tuple(ids[len(head) :])
        raise AssertionError("every text begins with the empty text")

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Returns the text of these ids, with special tokens as they are written."""
        return self.backend.decode([int(i) for i in ids])

    def decode_text(self, ids: Sequence[int] | np.ndarray) -> str:
        """Returns the text of these ids without special tokens."""
        return self.backend.decode([int(i) for i in ids], skip_special=True)

    @functools.cached_property
    def _extra(self) -> int | None:
        """The number of surplus ids of each group but the first; None: groups are not encoded like the whole text.

        LLaMA's tokenizers put a space before every text, so each group but the first has one id too many. With merges
        across line ends (Llama-3) or folded spaces, the groups' ids differ from those of the whole text.
        """
        if not self.backend.cuts_at_lines:
            return None
        (line_end,), (whole,) = self.backend.encode(["\n"]), self.backend.encode([SAMPLE])
        extra = len(line_end) - 1
        groups = self.backend.encode(split_lines(SAMPLE, 0))
        is_same = [i for g, ids in enumerate(groups) for i in ids[extra if g else 0 :]] == whole
        return extra if extra >= 0 and is_same else None


def split_lines(text: str, size: int = GROUP) -> list[str]:
    """Splits a text at line ends into groups of about `size` characters; all but the first begin with a line end."""
    groups, start = [], 0
    while start < len(text):
        end = text.find("\n", start + max(size, 1))
        end = len(text) if end < 0 else end
        groups.append(text[start:end])
        start = end
    return groups


def train_tokenizer(
    documents: Iterable[Document],
    path: str | os.PathLike,
    vocab: int = 1024,
    phrases: Sequence[str] = (),
    characters: int = 1_500_000,
) -> Tokenizer:
    """Trains a sentencepiece BPE model on an even sample of the documents' lines.

    Every digit and every line's end is a piece of its own, and bytes cover rare characters, so that decoding returns
    every text unchanged.

    Args:
      documents: the training text.
      path: the model file to write.
      vocab: vocabulary size.
      phrases: sentences of synthetic data whose words shall become pieces, too.
      characters: size of the sample.

    Raises:
      ValueError: the vocabulary is too small, or too large for the text.

    """
    if vocab < 400:
        raise ValueError(f"vocab={vocab} must be at least 400: 256 bytes, the letters, and some words")
    model = io.BytesIO()
    try:
        _train(iter(_sample(documents, characters) + [*phrases] * PHRASE_REPETITIONS), model, vocab)
    except RuntimeError as error:  # too little text
        raise ValueError(f"vocab={vocab}: sentencepiece fails: {str(error).splitlines()[-1]}") from error
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
    """-> every n-th line of the text, about `characters` in all."""
    text = [line for document in documents for line in document.text.split("\n") if line.strip()]
    return text[:: max(1, sum(map(len, text)) // characters)]
