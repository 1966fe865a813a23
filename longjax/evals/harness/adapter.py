"""Adapts a model under test to the interface of lm_eval. Only this module imports lm_eval at its top."""

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
    refuse_nan,
)
from longjax.progress import ProgressFn, no_progress

SLICE = 256  # requests of one call, which are lost if the run is killed
MAX_NEW_TOKENS = 256  # of tasks that set none: lm_eval's default

Pair = tuple[tuple[str, str] | None, list[int], list[int]]  # texts, ids of the context, ids of the continuation


class HarnessModel(TemplateLM):
    """A model of lm_eval. Contexts begin with BOS, once, and are cut from the left to fit.

    Attributes:
      model: the model under test.
      tokens: its tokenizer.
      max_length: limit of the tokens that the model reads; one more can be scored.
      progress: called after every slice.

    """

    def __init__(self, model: RequestFn, tokenizer: Tokenizer, max_length: int, progress: ProgressFn = no_progress):
        super().__init__()
        self.progress = progress
        self.model, self.tokens, self.max_length = model, tokenizer, max_length
        self.encode = functools.lru_cache(1024)(tokenizer.encode)  # the choices of a question share their context

    @property
    def eot_token_id(self) -> int:
        return self.tokens.eos_id

    @property
    def prefix_token_id(self) -> int:
        """BOS; lm_eval would take EOS, which LLaMA has not been trained with at the beginning of a text."""
        ids = [i for i in (self.tokens.bos_id, self.tokens.eos_id) if i >= 0]
        if not ids:
            raise ValueError(
                "short tasks: no token stands before a text to predict its first one: name one by --opening"
            )
        return ids[0]

    @property
    def tokenizer_name(self) -> str:
        return self.tokens.sha256

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        head = [self.tokens.bos_id] if add_special_tokens is not False and self.tokens.bos_id >= 0 else []
        return head + self.encode(string).tolist()

    def _loglikelihood_tokens(self, requests: Sequence[Pair], **_: Any) -> list[tuple[float, bool]]:
        results: dict[int, tuple[float, bool]] = {}
        for request in requests:
            self.check(request)
        for part in slices([len(context) + len(continuation) for _, context, continuation in requests]):
            responses = self.model([self.loglikelihood_request(requests[i]) for i in part])
            for i, response in zip(part, cast("list[LoglikelihoodResult]", responses), strict=True):
                refuse_nan(f"short, the choice {(requests[i][0] or ('', 'of a window'))[1]!r}", response)
                results[i] = float(-response.nll_U.sum(dtype=np.float64)), bool(response.is_greedy_U.all())
                if (texts := requests[i][0]) is not None:
                    self.cache_hook.add_partial("loglikelihood", texts, results[i])
            self.progress(len(results) / len(requests), f"{len(results)} of {len(requests)} choices")
        return [results[i] for i in range(len(requests))]

    def check(self, request: Pair) -> None:
        """Raise ValueError for a request that cannot be scored."""
        texts, _, continuation = request
        if len(continuation) > self.max_length:
            raise ValueError(f"--lengths: a choice of {len(continuation)} tokens does not fit in {self.max_length}")
        if not continuation:
            raise ValueError(f"--short_tasks: {texts and texts[1]!r} adds no token to the text before it")

    def loglikelihood_request(self, request: Pair) -> LoglikelihoodRequest:
        """Return the request: the model reads at most max_length tokens, and the last one is only scored."""
        _, context, continuation = request
        ids = (context + continuation)[-(self.max_length + 1) :]
        return LoglikelihoodRequest(np.array(ids, np.int32), {}, first_scored=len(ids) - len(continuation))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each whole text, whose first token is predicted from BOS."""
        results = []
        for request in requests:
            (text,) = request.args
            results.append(sum(value for value, _ in self._loglikelihood_tokens(self.windows(text))))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), results[-1])
        return results

    def windows(self, text: str) -> list[Pair]:
        """Return the windows of a text, in which every token is scored once."""
        ids = self.tok_encode(text, add_special_tokens=False)
        return [(None, *window) for window in disjoint_windows(ids, self.prefix_token_id, self.max_length, 1)]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        ours, texts = [self.generation_request(*request.args) for request in requests], {}
        for part in slices([len(request.tokens_T) for request in ours]):
            responses = self.model([ours[i] for i in part])
            for i, response in zip(part, cast("list[GenerationResult]", responses), strict=True):
                refuse_nan(f"short/{requests[i].task_name}, record {requests[i].doc_id}", response)
                texts[i] = response.text
                self.cache_hook.add_partial("generate_until", requests[i].args, response.text)
            self.progress(len(texts) / len(requests), f"{len(texts)} of {len(requests)} answers")
        return [texts[i] for i in range(len(requests))]

    def generation_request(self, context: str, gen_kwargs: dict[str, Any]) -> GenerationRequest:
        """Return the request; the answer has at most half of the context length."""
        rules: dict[str, Any] = {**normalize_gen_kwargs(gen_kwargs, MAX_NEW_TOKENS)}
        if rules["do_sample"]:
            raise ValueError("--short_tasks: a task samples its answers, but only greedy decoding is supported")
        new = min(int(rules["max_gen_toks"]), self.max_length // 2)
        ids = self.tok_encode(context)[-(self.max_length - new) :]
        return GenerationRequest(np.array(ids, np.int32), {}, new, stop_texts=tuple(filter(None, rules["until"])))

    def measure(self, arguments: Any) -> tuple[int, int]:
        """Return the number of tokens of a request's prompt, and of those that are cut from its left."""
        context, after = arguments
        ids, room = self.tok_encode(context), self.max_length
        if isinstance(after, dict):
            room -= self.generation_request(context, after).max_new_tokens
            return len(ids), max(0, len(ids) - room)
        continuation = len(self.tok_encode(context + after)) - len(ids)
        return len(ids), max(0, len(ids) + continuation - room - 1)


def disjoint_windows(ids: list[int], prefix: int, length: int, context: int) -> list[tuple[list[int], list[int]]]:
    """Return (context, scored tokens) of each window; together they score every token once."""
    return [make_disjoint_window(pair) for pair in get_rolling_token_windows(ids, prefix, length, context)]


def slices(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return indices of the sizes, the largest first, in tuples of SLICE."""
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    return [tuple(order[i : i + SLICE]) for i in range(0, len(order), SLICE)]
