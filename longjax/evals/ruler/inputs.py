"""Inputs of RULER's tasks: prompts, words, essays, documents. Each is read when a task first needs it."""

import dataclasses
import functools
from collections.abc import Sequence

from longjax.evals import wordlists
from longjax.evals.context import EvalContext
from longjax.evals.haystack import read_haystack
from longjax.evals.prompts import RulerPrompt
from longjax.evals.requests import Record
from longjax.evals.ruler.documents import QaDataset, hotpotqa, read_dataset, squad
from longjax.evals.ruler.haystacks import Essays
from longjax.evals.ruler.prompts import prompts_and_id
from longjax.evals.ruler.token_counter import TokenCounter
from longjax.files import read_object, sha256_file

ESSAYS, ENGLISH = "ruler/PaulGrahamEssays.json", "ruler/english_words.json"
SOURCES = {
    "qa_1": ("ruler/squad.json", squad, "rajpurkar.github.io/SQuAD-explorer (dev-v2.0.json)"),
    "qa_2": ("ruler/hotpotqa.json", hotpotqa, "hotpotqa.github.io (hotpot_dev_distractor_v1.json)"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class RulerInputs:
    """Inputs of RULER's tasks, of the user's files in `ctx.data_dir`/ruler or of our own."""

    ctx: EvalContext

    @functools.cached_property
    def counter(self) -> TokenCounter:
        """Counter of the tokenizer's tokens."""
        return TokenCounter(self.ctx.tokenizer)

    @functools.cached_property
    def named_prompts(self) -> tuple[dict[str, RulerPrompt], str]:
        """Prompts by base task, and their name in manifests."""
        return prompts_and_id(self.ctx.prompts)

    @functools.cached_property
    def words(self) -> wordlists.Words:
        """Words of keys and lists."""
        return wordlists.read_words(self.ctx.data_dir / "ruler/words.json")

    @functools.cached_property
    def haystack(self) -> tuple[Essays, Record]:
        """Essays and their metadata: RULER's own file, or else haystack/."""
        path = self.ctx.data_dir / ESSAYS
        if not path.exists():
            haystack = read_haystack(self.ctx)
            return Essays(haystack.text.split()), haystack.metadata
        text = read_object(path, "make it again").get("text")
        if not isinstance(text, str) or not text.split():
            raise ValueError(f'{path} holds no text: it needs {{"text": ...}} as RULER has it')
        return Essays(text.split()), {"haystack": path.stem, "haystack_sha256": sha256_file(path)}

    @functools.cache  # noqa: B019 (inputs live as long as their run)
    def qa_dataset(self, task: str) -> QaDataset:
        """Return the documents and questions of qa_1 or qa_2. Raises ValueError without the user's file."""
        name, reader, source = SOURCES[task]
        return read_dataset(self.ctx.find_file([name], "questions and documents, as published", source), reader)

    def list_words(self, count: int) -> tuple[Sequence[str], str]:
        """Return at least `count` words for lists, and their name in manifests.

        Where `words` has too few, RULER's file adds words, or else made-up ones.
        """
        words = self.words.all
        if count <= len(words):
            return words, self.words.name
        path = self.ctx.data_dir / ENGLISH
        if path.exists():
            more, name = wordlists.read_english(path), "english_words.json"
        else:
            more, name = wordlists.synthetic_words(count), "made"
        return list(dict.fromkeys([*words, *more])), f"{self.words.name}+{name}"
