"""Pass keys by variant and length."""

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
    """A key hidden in a text, asked for at its end."""

    passkey_variant: Name = "longlora"  # whose prompts and rules; longlora and study need no decoding
    passkey_samples: int | None = None  # prompts a length, for study a length and depth; the variant's own number
    passkey_lengths: Literal["fitted", "published"] = "fitted"  # --lengths, or what landmark and longlora print
    passkey_depths: str = "0,0.25,0.5,0.75,1"  # study: where the key is, 0 first and 1 last
    passkey_keys: int = 3  # yarn_hard: keys in a text

    def __post_init__(self):
        for name, value in (("passkey_samples", self.passkey_samples), ("passkey_keys", self.passkey_keys)):
            if value is not None and value < 1:
                raise ValueError(f"--{name}={value} must be at least 1")

    @property
    def depths(self) -> list[float]:
        try:
            found = [float(word) for word in self.passkey_depths.split(",")]
        except ValueError as error:
            raise ValueError(f"--passkey_depths={self.passkey_depths} must be numbers like 0,0.5,1") from error
        if not all(0 <= depth <= 1 for depth in found):
            raise ValueError(f"--passkey_depths={self.passkey_depths} must lie between 0 and 1")
        return found

    def tasks(self, material: EvalContext) -> list[Task]:
        if self.passkey_lengths == "published" and self.passkey_variant not in ("landmark", "longlora"):
            raise ValueError(
                f"--passkey_lengths=published: --passkey_variant={self.passkey_variant} has lengths in tokens, if any; "
                "name them with --lengths"
            )
        if self.passkey_variant in ("study", "yarn_hard"):
            haystack = read_haystack(material)
            return marked(self.in_haystack(material, haystack), haystack)
        if self.passkey_variant == "self_extend":
            return list(self_extend.tasks(material))
        variants: dict[str, PasskeyVariant] = {"landmark": Landmark(), "longlora": LongLora(), "yarn": Yarn()}
        variant = variants[self.passkey_variant]
        make = published_tasks if self.passkey_lengths == "published" else fitted_tasks
        return make(variant, material, self.samples(material, variant.samples))

    def samples(self, material: EvalContext, usual: int, cells: int = 1) -> int:
        """-> prompts a cell."""
        wanted = self.passkey_samples or usual
        return wanted if material.max_examples is None else max(1, min(wanted, material.max_examples // cells))

    def in_haystack(self, material: EvalContext, haystack: Haystack) -> list[Task]:
        if self.passkey_variant == "study":
            return self.of_study(material, haystack)
        text = haystack.repeated(material.tokenizer, max(material.lengths))
        variant = YarnHard(re.findall(r"\S+\s*", text), self.passkey_keys)
        return fitted_tasks(variant, material, self.samples(material, variant.samples))

    def of_study(self, material: EvalContext, haystack: Haystack) -> list[Task]:
        """-> the study's grid."""
        tokenizer, depths = material.tokenizer, self.depths
        samples = self.samples(material, STUDY_SAMPLES, len(depths))
        source = haystack.tokens(tokenizer, max(material.lengths))
        study = PasskeyGrid(source, PasskeyText.of(tokenizer), depths, samples, material.seed, tokenizer.bos_id)
        lengths = [length for length in material.lengths if length >= study.least]
        if not lengths:
            raise ValueError(f"--lengths={','.join(map(str, material.lengths))}: a pass key needs {study.least} tokens")
        if len(lengths) < len(material.lengths):
            logging.warning("pass keys are left out at --lengths shorter than %d", study.least)
        return [study.task(length) for length in lengths]


def marked(tasks: list[Task], haystack: Haystack) -> list[Task]:
    """-> the tasks, which say what text their keys are hidden in."""
    for task in tasks:
        for about in (task.settings, *(question.metadata for question in task.requests)):
            about.update(haystack.about)
    return tasks
