"""Two tokenizer libraries behind one interface: sentencepiece for .model files, tokenizers for tokenizer.json."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

BOS_NAMES = ("<s>", "<|begin_of_text|>", "<|startoftext|>", "[CLS]")
EOS_NAMES = ("</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "[SEP]")


class TokenizerBackend(Protocol):
    """A tokenizer library.

    Attributes:
      vocab: one more than the largest id.
      bos_id, eos_id: ids that open and close a document; -1: there is none.

    """

    vocab: int
    bos_id: int
    eos_id: int

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of each text, without special tokens around them."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of these ids, with special tokens as they are written."""
        ...

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece; None if there is none."""
        ...


class SentencePieceBackend:
    """A sentencepiece model. Raises ValueError if the file is none."""

    def __init__(self, path: pathlib.Path, threads: int):
        import sentencepiece

        try:
            self.pieces = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError as error:
            raise ValueError(f"{path} is not a sentencepiece model, or is torn: copy it again") from error
        self.threads = threads
        self.vocab, self.bos_id, self.eos_id = self.pieces.vocab_size(), self.pieces.bos_id(), self.pieces.eos_id()

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of each text."""
        if len(texts) == 1:  # starting threads would take longer
            return [self.pieces.encode(texts[0])]
        return self.pieces.encode(texts, num_threads=self.threads)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of these ids."""
        return self.pieces.decode(list(ids))

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece; None if there is none."""
        i = self.pieces.piece_to_id(piece)
        return None if i == self.pieces.unk_id() else i


class HuggingFaceBackend:
    """A tokenizer.json; tokenizer_config.json beside it names the tokens that open and close a document."""

    def __init__(self, path: pathlib.Path, threads: int):
        try:
            import tokenizers
        except ImportError as error:
            raise ValueError(
                f"{path} needs the package tokenizers: pip install tokenizers, or use a .model file"
            ) from error
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if threads > 1 else "false")
        try:
            self.tokenizer = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a tokenizer.json, or is torn: copy it again") from error
        self.tokenizer.no_truncation()  # what the last caller of the library saved is no part of the tokenizer
        self.tokenizer.no_padding()
        self.vocab = 1 + max(self.tokenizer.get_vocab(with_added_tokens=True).values())
        names = _special_tokens(path.parent / "tokenizer_config.json")
        self.bos_id = self._first([names.get("bos_token"), *BOS_NAMES])
        self.eos_id = self._first([names.get("eos_token"), *EOS_NAMES])

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of each text, without special tokens around them."""
        return [x.ids for x in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of these ids, with special tokens as they are written."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece; None if there is none."""
        return self.tokenizer.token_to_id(piece)

    def _first(self, pieces: list[str | None]) -> int:
        return next((i for piece in pieces if piece and (i := self.find(piece)) is not None), -1)


def _special_tokens(path: pathlib.Path) -> dict[str, str]:
    """-> the special tokens that a tokenizer_config.json names, by their role."""
    try:
        config = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON, or is torn: copy it again, or delete it") from error
    texts = {name: x.get("content") if isinstance(x, dict) else x for name, x in config.items()}
    return {name: x for name, x in texts.items() if isinstance(x, str)}
