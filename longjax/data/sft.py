"""Conversations for supervised fine-tuning: token ids, and loss masks that select the assistant's answers.

A template turns messages into turns. A turn is the text before an answer, and the answer; the tokens that open and
close a document may enclose it. Letters: I ids of a turn.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from longjax.data.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")


class Turn(NamedTuple):
    """One answer of the assistant and the text before it.

    Attributes:
      before: text without loss, since the previous answer.
      answer: text with loss.
      opens: whether the token that opens a document stands before the turn.
      closes: whether the token that closes a document follows the answer; it has loss, too.

    """

    before: str
    answer: str
    opens: bool = False
    closes: bool = False


class Message(NamedTuple):
    """A message of a conversation; its role is one of ROLES."""

    role: str
    content: str


@dataclasses.dataclass(frozen=True)
class Template:
    """The format in which a family of chat models writes conversations.

    Attributes:
      turns: maps messages to turns.
      special_tokens: tokens that the tokenizer must have.

    """

    turns: Callable[[list[Message]], list[Turn]]
    special_tokens: tuple[str, ...] = ()

    def check(self, tokenizer: Tokenizer, flag: str) -> None:
        """Raises ValueError, which names `flag`, if the tokenizer lacks a token of the template."""
        if missing := [piece for piece in self.special_tokens if tokenizer.backend.find(piece) is None]:
            raise ValueError(f"{flag} needs the tokens {' '.join(missing)}, which {tokenizer.path} does not have")
        if not self.special_tokens and min(tokenizer.bos_id, tokenizer.eos_id) < 0:
            raise ValueError(
                f"{flag} needs tokens that open and close a document, which {tokenizer.path} does not name"
            )


def llama2_turns(messages: list[Message]) -> list[Turn]:
    """LLaMA-2's format: <s>[INST] <<SYS>> ... <</SYS>> question [/INST] answer </s>"""
    turns, system, questions = [], "", []
    for role, content in messages:
        if role == "system":
            system = f"<<SYS>>\n{content}\n<</SYS>>\n\n"
        elif role == "user":
            questions.append(content)
        else:
            question = system + "\n\n".join(questions)
            turns.append(Turn(f"[INST] {question} [/INST]", f" {content}", opens=True, closes=True))
            system, questions = "", []
    return turns


def llama3_turns(messages: list[Message]) -> list[Turn]:
    """LLaMA-3's format: <|start_header_id|>role<|end_header_id|> text <|eot_id|>, after the document's first token."""
    turns = _delimited(messages, "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>", "")
    return [turn._replace(opens=i == 0) for i, turn in enumerate(turns)]


def chatml_turns(messages: list[Message]) -> list[Turn]:
    """ChatML: <|im_start|>role text <|im_end|>"""
    return _delimited(messages, "<|im_start|>{}\n", "<|im_end|>", "\n")


def _delimited(messages: list[Message], head: str, end: str, after: str) -> list[Turn]:
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
    "llama2": Template(llama2_turns),
    "llama3": Template(llama3_turns, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "chatml": Template(chatml_turns, ("<|im_start|>", "<|im_end|>")),
}


def messages_of(record: dict[str, Any]) -> list[Message]:
    """Returns the messages of a record {"messages": [{"role", "content"}, ...]} or {"prompt", "completion"}.

    Raises ValueError with a reason if it is neither.
    """
    if "messages" in record:
        messages = record["messages"]
    elif "prompt" in record and "completion" in record:
        user = {"role": "user", "content": record["prompt"]}
        messages = [user, {"role": "assistant", "content": record["completion"]}]
    else:
        raise ValueError("without messages, or prompt and completion")
    if not isinstance(messages, list) or not all(_is_text(message) for message in messages):
        raise ValueError("with messages that are not text")
    if any(message.get("role") not in ROLES for message in messages):
        raise ValueError(f"with roles beside {', '.join(ROLES)}")
    return [Message(message["role"], message["content"].strip()) for message in messages]


def _is_text(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content"), str)


@dataclasses.dataclass(frozen=True)
class Chat:
    """Encodes conversations.

    Attributes:
      template: a key of TEMPLATES.

    """

    kind: ClassVar[str] = "Chat"
    template: str

    def __call__(self, tokenizer: Tokenizer, content: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids and loss mask of a record."""
        turns = TEMPLATES[self.template].turns(messages_of(content))
        if not any(turn.answer for turn in turns):
            raise ValueError("without an answer")
        encoded = [encode_turn(tokenizer, turn) for turn in turns]
        return np.concatenate([ids for ids, _ in encoded]), np.concatenate([mask for _, mask in encoded])


def encode_turn(tokenizer: Tokenizer, turn: Turn) -> tuple[np.ndarray, np.ndarray]:
    """Encodes a turn as one text; the answer begins at the first id that differs from those of `before` alone.

    Returns:
      ids_I, int32, and mask_I, uint8: 1 from the answer on.

    """
    ids, before = tokenizer.encode(turn.before + turn.answer), tokenizer.encode(turn.before)
    shared = min(len(ids), len(before))
    differs = ids[:shared] != before[:shared]
    answer_start = int(differs.argmax()) if differs.any() else shared
    bos = [tokenizer.bos_id] if turn.opens else []
    eos = [tokenizer.eos_id] if turn.closes else []
    ids_I = np.concatenate([bos, ids, eos]).astype(np.int32)
    mask_I = (np.arange(len(ids_I)) >= len(bos) + answer_start).astype(np.uint8)
    return ids_I, mask_I
