"""The short tasks: their files, fields, published numbers of examples, and sources."""

import dataclasses
from collections.abc import Callable

from longjax.evals.harness import validation
from longjax.evals.requests import Record


@dataclasses.dataclass(frozen=True)
class ShortTask:
    """One task of lm_eval that reads a local file.

    Attributes:
      name: in lm_eval.
      file: short/<file>.jsonl is evaluated, examples come from short/<file>_fewshot.jsonl.
      yaml: path of the task below lm_eval's folder of tasks.
      fields: of both files, as the data set has them.
      row_error: row -> why it cannot be used; None: it can.
      shots: number of examples before the question, as in published results.
      main: the metric that tables show.
      source: where a user gets the data.
      split: name of the evaluated split in lm_eval's yaml.
      pool: names there of the split that examples come from.

    """

    name: str
    file: str
    yaml: str
    fields: tuple[str, ...]
    row_error: Callable[[Record], str | None]
    shots: int
    main: str
    source: str
    split: str = "validation"
    pool: tuple[str, ...] = ("training_split",)

    def pool_size(self, shots: int) -> int:
        """Return the number of examples that are needed: lm_eval draws one more where its yaml has no test split."""
        return shots + (shots > 0 and self.split == "validation")

    def description(self, shots: bool) -> str:
        """Return what a file holds, for messages."""
        kind = "examples for" if shots else "questions of"
        return f"{kind} {self.name}, an object a line with {', '.join(self.fields)}"


SUBJECT = "subject"  # MMLU is one task a subject
ARC = ShortTask(
    "arc_challenge", "arc_challenge", "arc/arc_challenge.yaml", ("question", "choices", "answerKey"), validation.arc,
    shots=25, main="acc_norm", split="test",
    source="the data set allenai/ai2_arc, ARC-Challenge, split test (examples: train)",
)  # fmt: skip
HELLASWAG = ShortTask(
    "hellaswag", "hellaswag", "hellaswag/hellaswag.yaml", ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
    validation.hellaswag, shots=10, main="acc_norm",
    source="the data set Rowan/hellaswag, split validation (examples: train)",
)  # fmt: skip
MMLU = ShortTask(
    "mmlu", "mmlu", "mmlu/default/mmlu_{subject}.yaml", ("question", SUBJECT, "choices", "answer"), validation.mmlu,
    shots=5, main="acc", split="test", pool=("fewshot_split",),
    source="the data set cais/mmlu, all, split test (examples: dev)",
)  # fmt: skip
WINOGRANDE = ShortTask(
    "winogrande", "winogrande", "winogrande/default.yaml", ("sentence", "option1", "option2", "answer"),
    validation.winogrande, shots=5, main="acc",
    source="the data set allenai/winogrande, winogrande_xl, split validation (examples: train)",
)  # fmt: skip
GSM8K = ShortTask(
    "gsm8k", "gsm8k", "gsm8k/gsm8k.yaml", ("question", "answer"), validation.gsm8k,
    shots=5, main="exact_match,strict-match", split="test", pool=("training_split", "fewshot_split"),
    source="the data set openai/gsm8k, main, split test (examples: train)",
)  # fmt: skip
MC2 = ShortTask(
    "truthfulqa_mc2", "truthfulqa", "truthfulqa/truthfulqa_mc2.yaml", ("question", "mc1_targets", "mc2_targets"),
    validation.truthfulqa, shots=0, main="acc",
    source="the data set truthfulqa/truthful_qa, multiple_choice, split validation",
)  # fmt: skip
MC1 = dataclasses.replace(MC2, name="truthfulqa_mc1", yaml="truthfulqa/truthfulqa_mc1.yaml")

OPENLLM = (ARC, HELLASWAG, MMLU, WINOGRANDE, GSM8K, MC2)
BY_NAME = {task.name: task for task in (*OPENLLM, MC1)}
GROUPS = {"openllm": tuple(task.name for task in OPENLLM)}


def tasks_by_name(names: str) -> list[ShortTask]:
    """Return the tasks that --short_tasks lists: groups or tasks. Raises ValueError for unknown ones."""
    listed = [x for name in names.split(",") for x in GROUPS.get(name.strip(), (name.strip(),))]
    if unknown := [name for name in listed if name not in BY_NAME]:
        raise ValueError(f"--short_tasks={names}: no {unknown[0]!r}; there are {', '.join([*GROUPS, *BY_NAME])}")
    return [BY_NAME[name] for name in dict.fromkeys(listed)]
