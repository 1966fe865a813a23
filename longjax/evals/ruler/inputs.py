"""What the tasks are made of: prompts, words, essays, documents. Each is read when a task first wants it."""

import dataclasses
import functools
import json
from collections.abc import Sequence

from longjax.evals import wordlists
from longjax.evals.context import EvalContext
from longjax.evals.haystack import read_haystack
from longjax.evals.prompts import RulerPrompt
from longjax.evals.requests import Record
from longjax.evals.ruler.documents import Library, hotpotqa, read_library, squad
from longjax.evals.ruler.haystacks import Essays
from longjax.evals.ruler.prompts import wording
from longjax.evals.ruler.token_counter import TokenCounter
from longjax.files import sha256_file

ESSAYS, ENGLISH = "ruler/PaulGrahamEssays.json", "ruler/english_words.json"
SOURCES = {
    "qa_1": ("ruler/squad.json", squad, "rajpurkar.github.io/SQuAD-explorer (dev-v2.0.json)"),
    "qa_2": ("ruler/hotpotqa.json", hotpotqa, "hotpotqa.github.io (hotpot_dev_distractor_v1.json)"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class RulerInputs:
    material: EvalContext

    @functools.cached_property
    def counter(self) -> TokenCounter:
        return TokenCounter(self.material.tokenizer)

    @functools.cached_property
    def named_prompts(self) -> tuple[dict[str, RulerPrompt], str]:
        return wording(self.material.prompts)

    @functools.cached_property
    def words(self) -> wordlists.Words:
        return wordlists.read_words(self.material.data_dir / "ruler/words.json")

    @functools.cached_property
    def haystack(self) -> tuple[Essays, Record]:
        """-> essays, and what results say of them: RULER's own file, or else haystack/."""
        path = self.material.data_dir / ESSAYS
        if not path.exists():
            found = read_haystack(self.material)
            return Essays(found.text.split()), {"haystack": found.id, "haystack_sha256": found.sha256}
        try:
            text = json.loads(path.read_text("utf-8"))["text"].split()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'{path} is torn, or not {{"text": ...}} as RULER has it: make it again') from error
        return Essays(text), {"haystack": path.stem, "haystack_sha256": sha256_file(path)}

    @functools.cache  # noqa: B019 (a kit lives as long as its run)
    def library(self, task: str) -> Library:
        name, reader, source = SOURCES[task]
        return read_library(self.material.find_file([name], "questions and documents, as published", source), reader)

    def listed(self, count: int) -> tuple[Sequence[str], str]:
        """-> at least `count` words for lists, and what they are: beyond the words, RULER's file or made ones."""
        held = self.words.all
        if count <= len(held):
            return held, self.words.name
        path = self.material.data_dir / ENGLISH
        if path.exists():
            more, name = wordlists.read_english(path), "english_words.json"
        else:
            more, name = wordlists.made_words(count), "made"
        return list(dict.fromkeys([*held, *more])), f"{self.words.name}+{name}"
