"""Tasks of pass key retrieval, by variant and length."""

import dataclasses
import re
from typing import Literal

from absl import logging

from longjax.data.passkey_text import PasskeyText
from longjax.evals.context import EvalContext
from longjax.evals.haystack import Haystack, read_haystack
from longjax.evals.passkey import self_extend
from longjax.evals.passkey.grid import PasskeyGrid
from longjax.evals.passkey.landmark import Landmark
from longjax.evals.passkey.longlora import LongLora
from longjax.evals.passkey.sized_tasks import PasskeyVariant, fitted_tasks, published_tasks
from longjax.evals.passkey.yarn import Yarn
from longjax.evals.passkey.yarn_hard import YarnHard
from longjax.evals.requests import Task

Name = Literal["study", "landmark", "longlora", "yarn", "yarn_hard", "self_extend"]
STUDY_SAMPLES = 20  # prompts a cell


@dataclasses.dataclass(frozen=True)
class PasskeyTest:
    """Retrieval of a key that is hidden in a text."""

    passkey_variant: Name = "longlora"  # authors of prompts and scoring rules; longlora and study need no decoding
    passkey_samples: int | None = None  # prompts of a length, for study also of a depth; the variant's number if unset
    passkey_lengths: Literal["fitted", "published"] = "fitted"  # --lengths, or the sizes of landmark and longlora
    passkey_depths: str = "0,0.25,0.5,0.75,1"  # study: depths of the key, 0 at the beginning and 1 at the end
    passkey_keys: int = 3  # yarn_hard: number of keys in a text

    def __post_init__(self):
        for name, value in (("passkey_samples", self.passkey_samples), ("passkey_keys", self.passkey_keys)):
            if value is not None and value < 1:
                raise ValueError(f"--{name}={value} must be at least 1")

    @property
    def depths(self) -> list[float]:
        """--passkey_depths as numbers. Raises ValueError unless they are between 0 and 1."""
        try:
            depths = [float(word) for word in self.passkey_depths.split(",")]
        except ValueError as error:
            raise ValueError(f"--passkey_depths={self.passkey_depths} must be numbers like 0,0.5,1") from error
        if not all(0 <= depth <= 1 for depth in depths):
            raise ValueError(f"--passkey_depths={self.passkey_depths} must lie between 0 and 1")
        return depths

    def tasks(self, ctx: EvalContext) -> list[Task]:
        """Return a task for each length. Raises ValueError for settings and files that do not fit."""
        if self.passkey_lengths == "published" and self.passkey_variant not in ("landmark", "longlora"):
            raise ValueError(
                f"--passkey_lengths=published: --passkey_variant={self.passkey_variant} has no published sizes; "
                "set --lengths"
            )
        if self.passkey_variant in ("study", "yarn_hard"):
            haystack = read_haystack(ctx)
            return with_haystack(self.in_haystack(ctx, haystack), haystack)
        if self.passkey_variant == "self_extend":
            return list(self_extend.file_tasks(ctx))
        variants: dict[str, PasskeyVariant] = {"landmark": Landmark(), "longlora": LongLora(), "yarn": Yarn()}
        variant = variants[self.passkey_variant]
        make = published_tasks if self.passkey_lengths == "published" else fitted_tasks
        return make(variant, ctx, self.samples(ctx, variant.samples))

    def samples(self, ctx: EvalContext, default: int, cells: int = 1) -> int:
        """Return the number of prompts of a cell."""
        samples = self.passkey_samples or default
        return samples if ctx.max_examples is None else max(1, min(samples, ctx.max_examples // cells))

    def in_haystack(self, ctx: EvalContext, haystack: Haystack) -> list[Task]:
        """Return the tasks of the variants whose keys are in real text."""
        if self.passkey_variant == "study":
            return self.study_tasks(ctx, haystack)
        text = haystack.repeated(ctx.tokenizer, max(ctx.lengths))
        variant = YarnHard(re.findall(r"\S+\s*", text), self.passkey_keys)
        return fitted_tasks(variant, ctx, self.samples(ctx, variant.samples))

    def study_tasks(self, ctx: EvalContext, haystack: Haystack) -> list[Task]:
        """Return the tasks of our own study's grid. Raises ValueError if all lengths are too short."""
        tokenizer, depths = ctx.tokenizer, self.depths
        samples = self.samples(ctx, STUDY_SAMPLES, len(depths))
        source = haystack.tokens(tokenizer, max(ctx.lengths))
        grid = PasskeyGrid(source, PasskeyText.from_tokenizer(tokenizer), depths, samples, ctx.seed, tokenizer.bos_id)
        lengths = [length for length in ctx.lengths if length >= grid.min_length]
        if not lengths:
            raise ValueError(f"--lengths={','.join(map(str, ctx.lengths))}: a pass key needs {grid.min_length} tokens")
        if len(lengths) < len(ctx.lengths):
            logging.warning("pass keys are left out at --lengths shorter than %d", grid.min_length)
        return [grid.task(length) for length in lengths]


def with_haystack(tasks: list[Task], haystack: Haystack) -> list[Task]:
    """Return the tasks after adding their haystack to settings and metadata."""
    for task in tasks:
        for record in (task.settings, *(request.metadata for request in task.requests)):
            record.update(haystack.metadata)
    return tasks
