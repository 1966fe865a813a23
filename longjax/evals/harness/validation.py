"""Checks of the rows of short tasks, each of which returns why a row cannot be used, or None.

Without them lm_eval would stop in the middle, with a trace.
"""

from longjax.evals.requests import Record


def is_text_list(x: object) -> bool:
    """Whether a value is a list of at least one text."""
    return isinstance(x, list) and len(x) > 0 and all(isinstance(text, str) for text in x)


def not_texts(row: Record, *names: str) -> str | None:
    """Check that these fields are texts."""
    return next((f"{name} must be a text, not {repr(row[name])[:40]}" for name in names if not_text(row[name])), None)


def not_text(x: object) -> bool:
    """Whether a value is no text."""
    return not isinstance(x, str)


def arc(row: Record) -> str | None:
    """Check a row of ARC."""
    choices = row["choices"]
    if not isinstance(choices, dict) or not is_text_list(choices.get("text")) or not is_text_list(choices.get("label")):
        return "choices must be {text: [...], label: [...]}"
    if len(choices["text"]) != len(choices["label"]) or row["answerKey"] not in choices["label"]:
        return f"answerKey {row['answerKey']!r} is none of the labels, or there are not as many as choices"
    return not_texts(row, "question")


def hellaswag(row: Record) -> str | None:
    """Check a row of HellaSwag."""
    if not is_text_list(row["endings"]):
        return "endings must be a list of texts"
    if str(row["label"]) not in map(str, range(len(row["endings"]))):
        return f"label {row['label']!r} is no index of an ending"
    return not_texts(row, "activity_label", "ctx_a", "ctx_b")


def mmlu(row: Record) -> str | None:
    """Check a row of MMLU."""
    if not is_text_list(row["choices"]) or len(row["choices"]) != 4:
        return "choices must be a list of four texts"
    if row["answer"] not in (0, 1, 2, 3):
        return f"answer {row['answer']!r} must be 0, 1, 2 or 3"
    return not_texts(row, "question", "subject")


def winogrande(row: Record) -> str | None:
    """Check a row of WinoGrande."""
    if row["answer"] not in ("1", "2"):
        return f"answer {row['answer']!r} must be '1' or '2'"
    return not_texts(row, "sentence", "option1", "option2") or (None if "_" in row["sentence"] else "sentence has no _")


def gsm8k(row: Record) -> str | None:
    """Check a row of GSM8K."""
    return not_texts(row, "question", "answer")


def truthfulqa(row: Record) -> str | None:
    """Check a row of TruthfulQA."""
    for name in ("mc1_targets", "mc2_targets"):
        targets = row[name]
        if not isinstance(targets, dict) or not is_text_list(targets.get("choices")):
            return f"{name} must be {{choices: [...], labels: [...]}}"
        labels = targets.get("labels")
        if not isinstance(labels, list) or len(labels) != len(targets["choices"]) or not {*labels} <= {0, 1}:
            return f"{name} needs a label 0 or 1 for each choice"
    return not_texts(row, "question") or (
        None if row["mc1_targets"]["labels"][0] == 1 else "the first of mc1_targets must be right"
    )
