"""A model under test as lm_eval sees one. Only this module imports lm_eval at its top."""

import functools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
from lm_eval.models.utils import normalize_gen_kwargs  # pyright: ignore[reportMissingImports]
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # pyright: ignore[reportMissingImports]

from longjax.data.tokenizer import Tokenizer
from longjax.evals.requests import (
    GenerationRequest,
    GenerationResult,
    LoglikelihoodRequest,
    LoglikelihoodResult,
    RequestFn,
)
from longjax.progress import ProgressFn, no_progress

SLICE = 256  # requests asked at once: what is lost if the run is killed
NEW = 256  # tokens of an answer, if the task does not say: lm_eval's own default

Pair = tuple[tuple[str, str] | None, list[int], list[int]]  # the texts, ids of the context, ids of what follows


class HarnessModel(TemplateLM):
    """Contexts open with the tokenizer's first token, once, and are cut from the left to fit.

    Attributes:
      ask: the model.
      max_length: tokens it reads at most; one more can be scored.
      tell: is told after every slice how many requests are answered.

    """

    def __init__(self, ask: RequestFn, tokenizer: Tokenizer, max_length: int, tell: ProgressFn = no_progress):
        super().__init__()
        self.tell = tell
        self.ask, self.tokens, self.max_length = ask, tokenizer, max_length
        self.encode = functools.lru_cache(1024)(tokenizer.encode)  # the choices of a question share their context

    @property
    def eot_token_id(self) -> int:
        return self.tokens.eos_id

    @property
    def prefix_token_id(self) -> int:
        """lm_eval would take the one that ends a text, which LLaMA never saw at the beginning of one."""
        return self.tokens.bos_id if self.tokens.bos_id >= 0 else self.tokens.eos_id

    @property
    def tokenizer_name(self) -> str:
        return self.tokens.sha256

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        head = [self.tokens.bos_id] if add_special_tokens is not False and self.tokens.bos_id >= 0 else []
        return head + self.encode(string).tolist()

    def _loglikelihood_tokens(self, requests: Sequence[Pair], **_: Any) -> list[tuple[float, bool]]:
        found: dict[int, tuple[float, bool]] = {}
        for request in requests:
            self.check(request)
        for part in slices([len(context) + len(follows) for _, context, follows in requests]):
            answers = self.ask([self.scored(requests[i]) for i in part])
            for i, answer in zip(part, cast("list[LoglikelihoodResult]", answers), strict=True):
                found[i] = float(-answer.nll_U.sum(dtype=np.float64)), bool(answer.is_greedy_U.all())
                if (texts := requests[i][0]) is not None:
                    self.cache_hook.add_partial("loglikelihood", texts, found[i])
            self.tell(len(found) / len(requests), f"{len(found)} of {len(requests)} choices")
        return [found[i] for i in range(len(requests))]

    def check(self, request: Pair) -> None:
        """Before anything is asked."""
        texts, _, follows = request
        if len(follows) > self.max_length:
            raise ValueError(f"--lengths: a choice of {len(follows)} tokens does not fit in {self.max_length}")
        if not follows:
            raise ValueError(f"--short_tasks: {texts and texts[1]!r} has no token of its own after the words before it")

    def scored(self, request: Pair) -> LoglikelihoodRequest:
        """-> the question: the model reads at most max_length tokens, the last one is only scored."""
        _, context, follows = request
        ids = (context + follows)[-(self.max_length + 1) :]
        return LoglikelihoodRequest(np.array(ids, np.int32), {}, first=len(ids) - len(follows))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """-> of each text the sum over all its tokens, the first one predicted from the token that opens a text."""
        found = []
        for request in requests:
            (text,) = request.args
            found.append(sum(value for value, _ in self._loglikelihood_tokens(self.windows(text))))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), found[-1])
        return found

    def windows(self, text: str) -> list[Pair]:
        ids = self.tok_encode(text, add_special_tokens=False)
        return [(None, *window) for window in disjoint(ids, self.prefix_token_id, self.max_length, 1)]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        questions, found = [self.continued(*request.args) for request in requests], {}
        for part in slices([len(q.tokens_T) for q in questions]):
            answers = self.ask([questions[i] for i in part])
            for i, answer in zip(part, cast("list[GenerationResult]", answers), strict=True):
                found[i] = answer.text
                self.cache_hook.add_partial("generate_until", requests[i].args, answer.text)
            self.tell(len(found) / len(requests), f"{len(found)} of {len(requests)} answers")
        return [found[i] for i in range(len(requests))]

    def continued(self, context: str, wanted: dict[str, Any]) -> GenerationRequest:
        """-> the question; an answer gets half of a context that is too short for more."""
        rules: dict[str, Any] = {**normalize_gen_kwargs(wanted, NEW)}
        if rules["do_sample"]:
            raise ValueError("--short_tasks: a task that samples; only greedy decoding is here")
        new = min(int(rules["max_gen_toks"]), self.max_length // 2)
        ids = self.tok_encode(context)[-(self.max_length - new) :]
        return GenerationRequest(np.array(ids, np.int32), {}, new, stop_texts=tuple(filter(None, rules["until"])))

    def measure(self, arguments: Any) -> tuple[int, int]:
        """-> tokens of the prompt of a request, tokens cut from its left."""
        context, after = arguments
        ids, room = self.tok_encode(context), self.max_length
        if isinstance(after, dict):
            room -= self.continued(context, after).max_new_tokens
            return len(ids), max(0, len(ids) - room)
        follows = len(self.tok_encode(context + after)) - len(ids)
        return len(ids), max(0, len(ids) + follows - room - 1)


def disjoint(ids: list[int], prefix: int, length: int, context: int) -> list[tuple[list[int], list[int]]]:
    """-> (context, scored) of each window; together they score every token once."""
    return [make_disjoint_window(pair) for pair in get_rolling_token_windows(ids, prefix, length, context)]


def slices(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """-> indices, the longest first, in runs of SLICE."""
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    return [tuple(order[i : i + SLICE]) for i in range(0, len(order), SLICE)]
