"""Two tokenizer libraries behind one interface: sentencepiece for .model files, tokenizers for tokenizer.json."""

import base64
import binascii
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

from longjax.data.tokenizer_folder import (
    CONFIG,
    LAST_RESORT,
    SAVE_AGAIN,
    AddedToken,
    Surroundings,
    opening_of,
    surroundings,
    vocabulary_files,
)


class TokenizerBackend(Protocol):
    """A tokenizer library with one vocabulary. Texts are never encoded as control tokens: those are text in them.

    Attributes:
      path: file of the vocabulary.
      vocab: one more than the largest id.
      opening: ids that the tokenizer itself puts before a text.
      eos_id: id that closes a document; -1: there is none.
      eos_ids: ids that end a generation, eos_id included.
      added: ids of the tokens that other files add to this one.
      cuts_at_lines: whether no token spans or swallows line ends by a rule of its own.

    """

    path: pathlib.Path
    vocab: int
    opening: tuple[int, ...]
    eos_id: int
    eos_ids: tuple[int, ...]
    added: dict[str, int]
    cuts_at_lines: bool

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of each text, without special tokens around them."""
        ...

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Returns the text of these ids, with special tokens as they are written, or without them."""
        ...

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece; None if there is none."""
        ...

    def begins_anew(self, mark: str) -> bool:
        """Whether a text behind this control token is encoded as a text of its own, not as the middle of one."""
        ...


def open_backend(path: pathlib.Path, threads: int) -> TokenizerBackend:
    """Opens the vocabulary that counts: of a folder's tokenizer.model and tokenizer.json, the larger one.

    Raises ValueError if there is none, if it is damaged, or if the two contradict each other.
    """
    *_, file = files = vocabulary_files(path)
    if len(files) == 1 or is_tiktoken(files[0]):
        return HuggingFaceBackend(file, threads) if file.suffix == ".json" else SentencePieceBackend(file, threads)
    pieces, tokenizer = SentencePieceBackend(files[0], threads), HuggingFaceBackend(file, threads)
    known = tokenizer.tokenizer.get_vocab(with_added_tokens=True)
    if other := [piece for i in range(pieces.own) if known.get(piece := pieces.pieces.id_to_piece(i)) != i]:
        raise ValueError(f"{files[0]} and {file} disagree about {other[0]!r}: delete the one that is not the model's")
    return tokenizer if tokenizer.vocab > pieces.own else pieces


class SentencePieceBackend:
    """A sentencepiece model, with control tokens that were added to it. Raises ValueError if the file is none."""

    cuts_at_lines = True

    def __init__(self, path: pathlib.Path, threads: int):
        import sentencepiece

        if is_tiktoken(path):
            raise ValueError(
                f"{path} is a vocabulary of tiktoken (Llama 3): put the release's tokenizer.json beside it"
            )
        try:
            self.pieces = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError as error:
            raise ValueError(f"{path} is not a sentencepiece model, or is torn: copy it again") from error
        self.path, self.threads, self.own = path, threads, self.pieces.vocab_size()
        beside = surroundings(path)
        self.added = self.listed(beside)
        for text in (x.text for x in beside.added if x.id is None and self.find(x.text) is None):
            if text != self.pieces.id_to_piece(self.pieces.unk_id()):
                self.added[text] = 1 + max(self.added.values(), default=self.own - 1)
        self.texts = {i: text for text, i in self.added.items()}
        self.vocab = max(self.own, *(1 + i for i in self.texts), 0)
        bos_id, self.eos_id = (
            i if text is None or (found := self.find(text)) is None else found
            for text, i in ((beside.bos_token, self.pieces.bos_id()), (beside.eos_token, self.pieces.eos_id()))
        )
        self.opening = (bos_id,) if beside.adds_bos and bos_id >= 0 else ()
        self.eos_ids = all_ends(self.eos_id, beside)

    def listed(self, beside: Surroundings) -> dict[str, int]:
        """Returns the ids of tokens that are added by id. Raises ValueError for one that is in texts, or another's."""
        added = {}
        for text, i, special, *_ in beside.added:
            if i is not None and not (self.pieces.id_to_piece(i) == text if i < self.own else special):
                raise ValueError(f"{self.path} and {beside.files} disagree about {text!r}, id {i}: {SAVE_AGAIN}")
            if i is not None and i >= self.own:
                added[text] = i
        return added

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of each text."""
        if len(texts) == 1:  # starting threads would take longer
            return [self.pieces.encode(texts[0])]
        return self.pieces.encode(texts, num_threads=self.threads)

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Returns the text of these ids; sentencepiece's own control tokens have none."""
        if not self.texts:
            return self.pieces.decode(list(ids))
        runs = [(text, [*run]) for text, run in itertools.groupby(ids, self.texts.get)]
        added = {text: "" if skip_special else text for text in self.added}
        return "".join(self.pieces.decode(run) if text is None else added[text] * len(run) for text, run in runs)

    def begins_anew(self, mark: str) -> bool:
        """Never: the blank before a text is that before all of it."""
        return False

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece; None if there is none."""
        i = self.pieces.piece_to_id(piece)
        return self.added.get(piece) if i == self.pieces.unk_id() else i


class HuggingFaceBackend:
    """A tokenizer.json with the tokens that files beside it add. Raises ValueError if it is damaged."""

    def __init__(self, path: pathlib.Path, threads: int):
        import tokenizers

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if threads > 1 else "false")
        self.path = path
        try:
            self.tokenizer = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a tokenizer.json, or is torn: copy it again") from error
        self.tokenizer.no_truncation()  # what the last caller of the library saved is no part of the tokenizer
        self.tokenizer.no_padding()
        beside = surroundings(path)
        self.add(beside)
        self.check_prefix_space(beside)
        self.opening = opening_of(
            self.tokenizer.encode("a").ids, self.tokenizer.encode("a", add_special_tokens=False).ids
        )
        self.tokenizer.encode_special_tokens = True  # control tokens in a text are text
        self.vocab = 1 + max(self.tokenizer.get_vocab(with_added_tokens=True).values())
        added = self.tokenizer.get_added_tokens_decoder().values()
        self.unsplit = self.read_as_tokens([x.content for x in added if x.special])
        self.cuts_at_lines = not self.unsplit and not any(map(spans_lines, added))
        self.eos_id = self.end(beside)
        self.eos_ids = all_ends(self.eos_id, beside)

    def add(self, beside: Surroundings) -> None:
        """Adds the tokens that other files list. Raises ValueError if their ids are not free."""
        import tokenizers

        own = self.tokenizer.get_vocab(with_added_tokens=True)
        special = {x.content: x.special for x in self.tokenizer.get_added_tokens_decoder().values()}
        for text, i, *flags in beside.added:
            if text not in special or (flags[0] and not special[text]):
                token = tokenizers.AddedToken(text, **dict(zip(AddedToken._fields[2:], flags, strict=True)))
                (self.tokenizer.add_special_tokens if flags[0] else self.tokenizer.add_tokens)([token])
            if i not in (None, self.find(text)):
                raise ValueError(f"{self.path} and {beside.files} disagree about {text!r}, id {i}: {SAVE_AGAIN}")
        everything = self.tokenizer.get_vocab(with_added_tokens=True)
        self.added = {text: i for text, i in everything.items() if text not in own}

    def read_as_tokens(self, special: list[str]) -> list[str]:
        """Returns the control tokens whose text the model itself reads as the token, as Unigram models may."""
        unknown = getattr(self.tokenizer.model, "unk_token", None)
        read = zip(special, self.tokenizer.encode_batch(special, add_special_tokens=False), strict=True)
        return [text for text, encoding in read if text != unknown and self.find(text) in encoding.ids]

    def check_prefix_space(self, beside: Surroundings) -> None:
        """Raises ValueError if tokenizer_config.json wants a blank before every text and tokenizer.json has none."""
        if beside.prefix_space and self.tokenizer.encode("a", add_special_tokens=False).ids == self.bare("a"):
            raise ValueError(f"{self.path} and {CONFIG} disagree about add_prefix_space: {SAVE_AGAIN}")

    def bare(self, text: str) -> list[int]:
        """Returns the ids of a text behind a line end, where no blank is put before it."""
        line, whole = (self.tokenizer.encode(x, add_special_tokens=False).ids for x in ("\n", f"\n{text}"))
        return whole[len(line) :]

    def end(self, beside: Surroundings) -> int:
        """Returns the id that closes a document: the named one, the first that ends generations, or a usual one."""
        if beside.eos_token is not None and (found := self.find(beside.eos_token)) is not None:
            return found
        usual = (i for text in LAST_RESORT if (i := self.find(text)) is not None)
        return beside.eos_ids[0] if beside.eos_ids else next(usual, -1)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of each text. Raises ValueError for a control token's text that it cannot read as text."""
        for token in self.unsplit:
            if any(token in text for text in texts):
                raise ValueError(f"with {token}, whose text {self.path} cannot tell from the control token")
        return [x.ids for x in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Returns the text of these ids, with special tokens as they are written, or without them."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=skip_special)

    def begins_anew(self, mark: str) -> bool:
        """Whether "a" behind the mark has the ids of the text "a"."""
        self.tokenizer.encode_special_tokens = False
        ids = self.tokenizer.encode(f"{mark}a", add_special_tokens=False).ids
        self.tokenizer.encode_special_tokens = True
        return ids == [self.find(mark), *self.tokenizer.encode("a", add_special_tokens=False).ids]

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece; None if there is none."""
        return self.tokenizer.token_to_id(piece)


def all_ends(eos_id: int, beside: Surroundings) -> tuple[int, ...]:
    """Returns all ids that end a generation, each once."""
    return tuple(dict.fromkeys([*([eos_id] if eos_id >= 0 else []), *beside.eos_ids]))


def spans_lines(token: Any) -> bool:
    """Returns whether an added token that is found in texts may cross a line end, or swallow blanks beside it."""
    return not token.special and (token.lstrip or token.rstrip or "\n" in token.content)


def is_tiktoken(path: pathlib.Path) -> bool:
    """Returns whether a .model file is a vocabulary of tiktoken: lines of a token in base64 and its rank."""
    with path.open("rb") as file:
        token, _, rank = file.read(200).partition(b"\n")[0].partition(b" ")
    try:
        return rank.strip().isdigit() and bool(base64.b64decode(token, validate=True))
    except binascii.Error:
        return False
