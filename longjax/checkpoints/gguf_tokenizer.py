"""The tokenizer of a GGUF file, from llama.cpp's metadata to the files of Hugging Face."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from longjax.checkpoints.hf_writer import json_bytes

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # llama.cpp's types of tokens
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2_WORDS = LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


class WordSplit(NamedTuple):
    """How a byte-level tokenizer cuts text into words, before merges.

    Attributes:
      words: a regular expression; None: GPT-2's.
      digits: every digit is a word.
      whole_words: a word that is a token is not merged from its parts.
      nfc: Unicode is composed first.
      adds_bos: a text is opened if the file does not say.

    """

    words: str | None = None
    digits: bool = False
    whole_words: bool = False
    nfc: bool = False
    adds_bos: bool = False

    def pre_tokenizer(self) -> Any:
        """Returns it as the tokenizers library has it."""
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.words is None)
        if self.words:
            return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(self.words), "isolated"), byte_level])
        digits = [pre_tokenizers.Digits(individual_digits=True)] if self.digits else []
        return pre_tokenizers.Sequence([*digits, byte_level])


LLAMA3, QWEN2 = WordSplit(LLAMA3_WORDS, whole_words=True, adds_bos=True), WordSplit(QWEN2_WORDS, nfc=True)
WORD_SPLITS = {  # by tokenizer.ggml.pre
    "gpt-2": WordSplit(), "smollm": WordSplit(digits=True), "qwen2": QWEN2, "deepseek-r1-qwen": QWEN2,
    "llama-bpe": LLAMA3, "llama3": LLAMA3, "llama-v3": LLAMA3,
}  # fmt: skip


def text_files(path: pathlib.Path, fields: Mapping[str, Any]) -> dict[str, bytes]:
    """Returns tokenizer.json, tokenizer_config.json, generation_config.json, and chat_template.jinja if there is one.

    Args:
      path: of the file, for messages.
      fields: its metadata by name.

    Raises:
      ValueError: the tokenizer is of no known kind, or incomplete.

    """
    ggml = {name.removeprefix("tokenizer.ggml."): x for name, x in fields.items() if name.startswith("tokenizer.ggml.")}
    try:
        tokenizer, adds_bos = tokenizer_of(path, ggml)
        config = tokenizer_config(ggml, adds_bos) | {
            "model_max_length": fields[f"{fields['general.architecture']}.context_length"]
        }
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: the metadata of its tokenizer is damaged: copy or download it again") from error
    ends = [ggml[f"{name}_token_id"] for name in ("eos", "eot") if f"{name}_token_id" in ggml]
    generation = {"bos_token_id": ggml.get("bos_token_id"), "eos_token_id": sorted({*ends})}
    files = {
        "tokenizer.json": tokenizer.to_str(pretty=True).encode(),
        "tokenizer_config.json": json_bytes(config),
        "generation_config.json": json_bytes(generation),
    }
    template = fields.get("tokenizer.chat_template")
    return files | ({"chat_template.jinja": template.encode()} if template else {})


def tokenizer_of(path: pathlib.Path, ggml: Mapping[str, Any]) -> tuple[Tokenizer, bool]:
    """Returns the tokenizer, and whether a text is opened by bos. Raises ValueError if its kind is not known."""
    kind, words = ggml.get("model"), ggml.get("pre", "gpt-2")
    if kind == "llama":
        tokenizer, adds_bos = sentencepiece_bpe(ggml), True
    elif kind == "gpt2" and words in WORD_SPLITS:
        tokenizer, adds_bos = byte_level_bpe(ggml, WORD_SPLITS[words]), WORD_SPLITS[words].adds_bos
    else:
        name = f"tokenizer.ggml.pre={words!r}" if kind == "gpt2" else f"tokenizer.ggml.model={kind!r}"
        raise ValueError(f"{path}: {name} is not supported: take the release in Hugging Face's format")
    adds_bos = ggml.get("add_bos_token", adds_bos)
    tokenizer.add_special_tokens(added_tokens(ggml, CONTROL))
    tokenizer.add_tokens(added_tokens(ggml, USER_DEFINED))
    if adds_bos:
        bos = ggml["tokens"][ggml["bos_token_id"]]
        opened = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A {bos}:1 $B:1", [(bos, ggml["bos_token_id"])])
        tokenizer.post_processor = opened
    return tokenizer, adds_bos


def byte_level_bpe(ggml: Mapping[str, Any], split: WordSplit) -> Tokenizer:
    """Returns a BPE on bytes, which are written as printable characters (GPT-2)."""
    merges = [pair(merge) for merge in ggml["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary(ggml), merges, ignore_merges=split.whole_words))
    tokenizer.normalizer = normalizers.NFC() if split.nfc else None
    tokenizer.pre_tokenizer = split.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece_bpe(ggml: Mapping[str, Any]) -> Tokenizer:
    """Returns a sentencepiece BPE, whose spaces are U+2581 and whose unknown characters are bytes."""
    unknown = ggml["tokens"][ggml.get("unknown_token_id", 0)]
    merges = [pair(merge) for merge in ggml["merges"]] if "merges" in ggml else merges_by_score(ggml)
    model = models.BPE(vocabulary(ggml), merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    prefix = [normalizers.Prepend("\u2581")] if ggml.get("add_space_prefix", True) else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "\u2581")])
    stripped = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), *stripped]
    )
    return tokenizer


def merges_by_score(ggml: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the pairs of pieces that make up a piece, the best score first, as sentencepiece merges them."""
    pieces = zip(ggml["tokens"], ggml["scores"], ggml["token_type"], strict=True)
    score = {piece: x for piece, x, kind in pieces if kind == NORMAL}
    pairs = [
        (piece[:i], piece[i:])
        for piece in score
        for i in range(1, len(piece))
        if piece[:i] in score and piece[i:] in score
    ]
    return sorted(pairs, key=lambda halves: (-score["".join(halves)], -len(halves[0])))


def vocabulary(ggml: Mapping[str, Any]) -> dict[str, int]:
    """Returns the ids by token."""
    return {token: i for i, token in enumerate(ggml["tokens"])}


def pair(merge: str) -> tuple[str, str]:
    """Returns the two tokens of a merge, which a space divides."""
    left, _, right = merge.partition(" ")
    return left, right


def added_tokens(ggml: Mapping[str, Any], kind: int) -> list[AddedToken]:
    """Returns the tokens of a type that are found in a text as a whole."""
    chosen = itertools.compress(ggml["tokens"], (x == kind for x in ggml.get("token_type", ())))
    return [AddedToken(token, normalized=False, special=kind == CONTROL) for token in chosen]


def tokenizer_config(ggml: Mapping[str, Any], adds_bos: bool) -> dict[str, Any]:
    """Returns tokenizer_config.json but for the longest text."""
    tokens: Sequence[str] = ggml["tokens"]
    roles = {role: tokens[ggml[f"{name}_token_id"]] for role, name in ROLES.items() if f"{name}_token_id" in ggml}
    flags = {"add_bos_token": bool(adds_bos), "add_eos_token": bool(ggml.get("add_eos_token", False))}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | flags | roles
