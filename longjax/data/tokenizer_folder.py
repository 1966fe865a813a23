"""The files of a tokenizer beside each other: which of them counts, and what the others add to it.

The result is what transformers' AutoTokenizer makes of the folder; where two files contradict each other, they are
refused by name.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from longjax.files import read_object

MODEL, JSON, CONFIG = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
SPECIAL_MAP, ADDED, GENERATION, MODEL_CONFIG = (
    "special_tokens_map.json", "added_tokens.json", "generation_config.json", "config.json",
)  # fmt: skip
FILES = (MODEL, JSON, CONFIG, SPECIAL_MAP, ADDED, GENERATION)  # that belong together
SAVE_AGAIN = "save it once again with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
LAST_RESORT = ("</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "[SEP]")  # ends, where no file names one


class AddedToken(NamedTuple):
    """A token beside a tokenizer's own vocabulary.

    Attributes:
      text: that it stands for.
      id: of it; None: the next one that is free.
      special: a control token, which no text contains.
      lstrip, rstrip: whether it takes the blanks before and after it.
      single_word: whether it is found only between the ends of words.
      normalized: whether it is looked for in the normalized text.

    """

    text: str
    id: int | None
    special: bool
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


class Surroundings(NamedTuple):
    """What the files beside a tokenizer's vocabulary say.

    Attributes:
      bos_token, eos_token: that they name; None: none.
      added: tokens that they list with ids, and then control tokens that have a role alone.
      adds_bos: whether a sentencepiece model's texts are opened by bos_token.
      eos_ids: ids that end a generation, of generation_config.json or else config.json.
      prefix_space: whether every text must begin with a blank that is put there.
      files: names of those that list `added`.

    """

    bos_token: str | None
    eos_token: str | None
    added: tuple[AddedToken, ...]
    adds_bos: bool
    eos_ids: tuple[int, ...]
    prefix_space: bool
    files: str


def vocabulary_files(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files that hold a vocabulary: `path` itself, or those in this folder, tokenizer.model first.

    Raises ValueError if there is none.
    """
    files = [file for file in ([path / MODEL, path / JSON] if path.is_dir() else [path]) if file.is_file()]
    if not files:
        raise ValueError(f"there is no tokenizer {path}: name a sentencepiece .model file or a tokenizer.json")
    return files


def surroundings(file: pathlib.Path) -> Surroundings:
    """Reads what stands beside a tokenizer's file. Raises ValueError naming a damaged one."""
    folder = file.parent
    config, special_map, added = (optional_object(folder / name) for name in (CONFIG, SPECIAL_MAP, ADDED))
    has_all = "added_tokens_decoder" in config  # then transformers reads neither of the two other files
    named = config if has_all else config | special_map
    special = special_texts(named)
    listed = tokens_of_decoder(folder / CONFIG, config) if has_all else tokens_of_map(folder / ADDED, special)
    by_role = [AddedToken(text, None, True) for text in special if text not in listed]
    adds_bos = config.get("add_bos_token", True) is not False
    sources = [CONFIG] if has_all or not added else [ADDED]
    return Surroundings(
        content_of(named.get("bos_token")), content_of(named.get("eos_token")),
        (*sorted(listed.values(), key=lambda token: token.id or 0), *by_role), adds_bos,
        eos_ids(folder), puts_blank(config), " and ".join(sources),
    )  # fmt: skip


def special_texts(config: dict[str, Any]) -> list[str]:
    """Returns the tokens that files give a role (bos_token, pad_token ...), then those that they list without one."""
    roles = [config.get(f"{name}_token") for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
    more = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    more = [*more.values()] if isinstance(more, dict) else more if isinstance(more, list) else []
    return list(dict.fromkeys(text for token in [*roles, *more] if (text := content_of(token))))


def puts_blank(config: dict[str, Any]) -> bool:
    """Returns whether the class of the tokenizer puts a blank before every text, whatever tokenizer.json says."""
    return bool(config.get("add_prefix_space")) and str(config.get("tokenizer_class")).startswith("GPT2")


def tokens_of_map(path: pathlib.Path, special: list[str]) -> dict[str, AddedToken]:
    """Returns the tokens of added_tokens.json, {text: id}; those with a role in another file are special."""
    content = optional_object(path)
    if not all(type(i) is int for i in content.values()):
        raise ValueError(f"{path} is damaged: it must give an id for every token")
    return {text: AddedToken(text, i, text in special) for text, i in content.items()}


def tokens_of_decoder(path: pathlib.Path, config: dict[str, Any]) -> dict[str, AddedToken]:
    """Returns the tokens of added_tokens_decoder in tokenizer_config.json, {id: {content, special, ...}}."""
    decoder = config.get("added_tokens_decoder") or {}
    try:
        tokens = [
            AddedToken(x["content"], int(i), *(bool(x.get(name)) for name in AddedToken._fields[2:]))
            for i, x in decoder.items()
        ]
        if not all(isinstance(token.text, str) and (token.id or 0) >= 0 for token in tokens):
            raise TypeError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its added_tokens_decoder lists no tokens; copy it again") from error
    return {token.text: token for token in tokens}


def eos_ids(folder: pathlib.Path) -> tuple[int, ...]:
    """Returns the ids that end a generation. Raises ValueError if a file lists something else."""
    for name in (GENERATION, MODEL_CONFIG):
        if (found := optional_object(folder / name).get("eos_token_id")) is not None:
            ids = found if isinstance(found, list) else [found]
            if not all(type(i) is int and i >= 0 for i in ids):
                raise ValueError(f"{folder / name}: eos_token_id={found!r} must be an id, or a list of ids")
            return tuple(ids)
    return ()


def content_of(token: Any) -> str | None:
    """Returns the text of a token, which some files describe by an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def optional_object(path: pathlib.Path) -> dict[str, Any]:
    """Returns the object that a file holds, {} without one. Raises ValueError if the file is damaged."""
    return read_object(path, "copy it again, or delete it") if path.exists() else {}


def opening_of(with_special: list[int], without: list[int]) -> tuple[int, ...]:
    """Returns the ids that a tokenizer puts before a text, from the ids of a text with and without special tokens."""
    n = len(without)
    starts = [i for i in range(len(with_special) - n + 1) if with_special[i : i + n] == without]
    return tuple(np.array(with_special[: starts[0]]).tolist()) if starts else ()
