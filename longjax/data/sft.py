"""Conversations to ids and masks: only what the assistant says, and the token that ends it, is learned.

A template turns messages into turns. A turn is what stands before an answer, and the answer; the tokens that open
and close a document may enclose it. Letters: I ids of a turn.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from longjax.data.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")


class Turn(NamedTuple):
    before: str
    answer: str
    opens: bool = False  # the document's first token stands before it
    closes: bool = False  # the document's last token is learned after it


class Message(NamedTuple):
    role: str
    content: str


@dataclasses.dataclass(frozen=True)
class Template:
    """How a family of chat models writes conversations.

    Attributes:
      turns: messages -> turns.
      needs: pieces that the tokenizer must have.

    """

    turns: Callable[[list[Message]], list[Turn]]
    needs: tuple[str, ...] = ()

    def check(self, tokenizer: Tokenizer, flag: str) -> None:
        if missing := [piece for piece in self.needs if tokenizer.backend.find(piece) is None]:
            raise ValueError(f"{flag} needs the tokens {' '.join(missing)}, which {tokenizer.path} does not have")
        if not self.needs and min(tokenizer.bos_id, tokenizer.eos_id) < 0:
            raise ValueError(
                f"{flag} needs tokens that open and close a document, which {tokenizer.path} does not name"
            )


def llama2(messages: list[Message]) -> list[Turn]:
    """<s>[INST] <<SYS>> ... <</SYS>> question [/INST] answer </s>"""
    turns, system, asked = [], "", []
    for role, content in messages:
        if role == "system":
            system = f"<<SYS>>\n{content}\n<</SYS>>\n\n"
        elif role == "user":
            asked.append(content)
        else:
            question = system + "\n\n".join(asked)
            turns.append(Turn(f"[INST] {question} [/INST]", f" {content}", opens=True, closes=True))
            system, asked = "", []
    return turns


def llama3(messages: list[Message]) -> list[Turn]:
    """<|start_header_id|>role<|end_header_id|> text <|eot_id|>, and one token that opens the document."""
    turns = _marked(messages, "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>", "")
    return [turn._replace(opens=i == 0) for i, turn in enumerate(turns)]


def chatml(messages: list[Message]) -> list[Turn]:
    """<|im_start|>role text <|im_end|>"""
    return _marked(messages, "<|im_start|>{}\n", "<|im_end|>", "\n")


def _marked(messages: list[Message], head: str, end: str, after: str) -> list[Turn]:
    turns, before = [], ""
    for role, content in messages:
        before += head.format(role)
        if role == "assistant":
            turns.append(Turn(before, content + end))
            before = after
        else:
            before += content + end + after
    return turns


TEMPLATES = {
    "llama2": Template(llama2),
    "llama3": Template(llama3, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "chatml": Template(chatml, ("<|im_start|>", "<|im_end|>")),
}


def messages_of(record: dict[str, Any]) -> list[Message]:
    """-> of {"messages": [{"role", "content"}, ...]} or {"prompt", "completion"}."""
    if "messages" in record:
        said = record["messages"]
    elif "prompt" in record and "completion" in record:
        said = [
            {"role": "user", "content": record["prompt"]}, {"role": "assistant", "content": record["completion"]}
        ]  # fmt: skip
    else:
        raise ValueError("without messages, or prompt and completion")
    if not isinstance(said, list) or not all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in said):
        raise ValueError("with messages that are not text")
    if any(m.get("role") not in ROLES for m in said):
        raise ValueError(f"with roles beside {', '.join(ROLES)}")
    return [Message(m["role"], m["content"].strip()) for m in said]


@dataclasses.dataclass(frozen=True)
class Chat:
    """An encoder of conversations by the template of this name."""

    template: str

    def __call__(self, tokenizer: Tokenizer, content: Any) -> tuple[np.ndarray, np.ndarray]:
        turns = TEMPLATES[self.template].turns(messages_of(content))
        if not any(turn.answer for turn in turns):
            raise ValueError("without an answer")
        parts = [encode_turn(tokenizer, turn) for turn in turns]
        return np.concatenate([ids for ids, _ in parts]), np.concatenate([mask for _, mask in parts])


def encode_turn(tokenizer: Tokenizer, turn: Turn) -> tuple[np.ndarray, np.ndarray]:
    """-> ids_I int32, mask_I uint8: the ids of the whole turn; what differs from the ids of `before` is the answer."""
    ids, before = tokenizer.encode(turn.before + turn.answer), tokenizer.encode(turn.before)
    shared = min(len(ids), len(before))
    learned = shared if (ids[:shared] == before[:shared]).all() else int((ids[:shared] != before[:shared]).argmax())
    ids_I = np.concatenate([[tokenizer.bos_id] * turn.opens, ids, [tokenizer.eos_id] * turn.closes]).astype(np.int32)
    mask_I = (np.arange(len(ids_I)) >= learned + turn.opens).astype(np.uint8)
    return ids_I, mask_I
