"""Conversations for supervised fine-tuning: token ids, and loss masks that select the assistant's answers.

A template turns messages into turns. A turn is the text before an answer, and the answer, with the template's control
tokens as marks; whatever messages say is text. Letters: I ids of a turn.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from longjax.data.tokenizer import Mark, Tokenizer

ROLES = ("system", "user", "assistant")
START_HEADER, END_HEADER, EOT = Mark("<|start_header_id|>"), Mark("<|end_header_id|>"), Mark("<|eot_id|>")
BEGIN, BOS, EOS = Mark("<|begin_of_text|>"), Mark("<s>"), Mark("</s>")
IM_START, IM_END = Mark("<|im_start|>"), Mark("<|im_end|>")


class Turn(NamedTuple):
    """One answer of the assistant and the text before it, as parts: texts, and marks that are control tokens.

    Attributes:
      before: parts without loss, since the previous answer.
      answer: parts with loss.

    """

    before: tuple[str, ...]
    answer: tuple[str, ...]


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
    special_tokens: tuple[str, ...]

    def check(self, tokenizer: Tokenizer, flag: str) -> None:
        """Raises ValueError, which names `flag`, if the tokenizer lacks a token of the template."""
        if missing := [piece for piece in self.special_tokens if tokenizer.backend.find(piece) is None]:
            raise ValueError(f"{flag} needs the tokens {' '.join(missing)}, which {tokenizer.path} does not have")


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
            turns.append(Turn((BOS, f"[INST] {question} [/INST]"), (f" {content}", EOS)))
            system, questions = "", []
    return turns


def llama3_turns(messages: list[Message]) -> list[Turn]:
    """LLaMA-3's format: <|start_header_id|>role<|end_header_id|> text <|eot_id|>, after the document's first token."""
    first, *others = _delimited(messages, (START_HEADER, "{}", END_HEADER, "\n\n"), EOT, "") or [Turn((), ())]
    return [first._replace(before=(BEGIN, *first.before)), *others]


def chatml_turns(messages: list[Message]) -> list[Turn]:
    """ChatML: <|im_start|>role text <|im_end|>"""
    return _delimited(messages, (IM_START, "{}\n"), IM_END, "\n")


def _delimited(messages: list[Message], head: tuple[str, ...], end: Mark, after: str) -> list[Turn]:
    turns, before = [], ()
    for role, content in messages:
        before += tuple(part if isinstance(part, Mark) else part.format(role) for part in head)
        if role == "assistant":
            turns.append(Turn(before, (content, end)))
            before = (after,)
        else:
            before += (content, end, after)
    return turns


TEMPLATES = {
    "llama2": Template(llama2_turns, (BOS, EOS)),
    "llama3": Template(llama3_turns, (BEGIN, START_HEADER, END_HEADER, EOT)),
    "chatml": Template(chatml_turns, (IM_START, IM_END)),
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
        if not any(any(turn.answer) for turn in turns):
            raise ValueError("without an answer")
        encoded = [encode_turn(tokenizer, turn) for turn in turns]
        return np.concatenate([ids for ids, _ in encoded]), np.concatenate([mask for _, mask in encoded])


def encode_turn(tokenizer: Tokenizer, turn: Turn) -> tuple[np.ndarray, np.ndarray]:
    """Encodes a turn as one text; the answer begins at the first id that differs from those of `before` alone.

    Returns:
      ids_I, int32, and mask_I, uint8: 1 from the answer on.

    """
    ids, before = tokenizer.encode_parts(turn.before + turn.answer), tokenizer.encode_parts(turn.before)
    shared = min(len(ids), len(before))
    differs = ids[:shared] != before[:shared]
    answer_start = int(differs.argmax()) if differs.any() else shared
    return ids, (np.arange(len(ids)) >= answer_start).astype(np.uint8)
