"""Two tokenizer libraries behind one interface: sentencepiece for .model, tokenizers for tokenizer.json."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

BEGIN = ("<s>", "<|begin_of_text|>", "<|startoftext|>", "[CLS]")
END = ("</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "[SEP]")


class TokenizerBackend(Protocol):
    """Whole texts to ids, nothing added.

    Attributes:
      vocab: one more than the largest id.
      bos_id, eos_id: ids that open and close a document; -1: there is none.

    """

    vocab: int
    bos_id: int
    eos_id: int

    def encode(self, texts: list[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def find(self, piece: str) -> int | None:
        """-> the id of this very piece, if there is one."""
        ...


class SentencePieceBackend:
    """A sentencepiece model."""

    def __init__(self, path: pathlib.Path, threads: int):
        import sentencepiece

        try:
            self.pieces = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError as error:
            raise ValueError(f"{path} is not a sentencepiece model, or is torn: copy it again") from error
        self.threads = threads
        self.vocab, self.bos_id, self.eos_id = self.pieces.vocab_size(), self.pieces.bos_id(), self.pieces.eos_id()

    def encode(self, texts: list[str]) -> list[list[int]]:
        if len(texts) == 1:  # threads would take longer to start
            return [self.pieces.encode(texts[0])]
        return self.pieces.encode(texts, num_threads=self.threads)

    def decode(self, ids: Sequence[int]) -> str:
        return self.pieces.decode(list(ids))

    def find(self, piece: str) -> int | None:
        i = self.pieces.piece_to_id(piece)
        return None if i == self.pieces.unk_id() else i


class HuggingFaceBackend:
    """A tokenizer.json; which of its tokens open and close a document is said in tokenizer_config.json beside it."""

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
        self.vocab = 1 + max(self.tokenizer.get_vocab(with_added_tokens=True).values())
        named = _named(path.parent / "tokenizer_config.json")
        self.bos_id = self._first([named.get("bos_token"), *BEGIN])
        self.eos_id = self._first([named.get("eos_token"), *END])

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [x.ids for x in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def find(self, piece: str) -> int | None:
        return self.tokenizer.token_to_id(piece)

    def _first(self, pieces: list[str | None]) -> int:
        return next((i for piece in pieces if piece and (i := self.find(piece)) is not None), -1)


def _named(path: pathlib.Path) -> dict[str, str]:
    """-> the special tokens that a tokenizer_config.json names, as text."""
    try:
        config = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON, or is torn: copy it again, or delete it") from error
    texts = {name: x.get("content") if isinstance(x, dict) else x for name, x in config.items()}
    return {name: x for name, x in texts.items() if isinstance(x, str)}
