"""Short tasks in the schemas of their data sets: ai2_arc, hellaswag, cais/mmlu (all), winogrande, gsm8k, truthful_qa.

short/<task>.jsonl is evaluated, short/<task>_fewshot.jsonl holds the examples that are shown before a question.
"""

import random
from collections.abc import Callable
from typing import Any

from longjax.evals.synthetic import prose
from longjax.evals.synthetic.settings import Files, SyntheticConfig, to_jsonl

Row = dict[str, Any]
SUBJECTS = ("anatomy", "marketing", "philosophy", "sociology")  # one of each of MMLU's four groups
SHOTS = {"arc_challenge": 25, "hellaswag": 10, "winogrande": 5, "gsm8k": 5}


def files(config: SyntheticConfig) -> Files:
    """Yield the two files of each task; TruthfulQA has one."""
    for task, count in SHOTS.items():
        make = MAKERS[task]
        yield f"short/{task}.jsonl", to_jsonl(make(rng) for rng in config.each("short", task))
        shown = (config.rng("short", task, "shown", i) for i in range(count + 1))
        yield f"short/{task}_fewshot.jsonl", to_jsonl(map(make, shown))
    yield "short/mmlu.jsonl", to_jsonl(mmlu_row(rng, name) for name in SUBJECTS for rng in config.each("mmlu", name))
    shown = [(name, config.rng("mmlu", name, "shown", i)) for name in SUBJECTS for i in range(5)]
    yield "short/mmlu_fewshot.jsonl", to_jsonl(mmlu_row(rng, name) for name, rng in shown)
    yield "short/truthfulqa.jsonl", to_jsonl(truthfulqa_row(rng) for rng in config.each("short", "truthfulqa"))


def _choices(rng: random.Random) -> tuple[str, list[str], int]:
    """-> a question that holds its answer, four choices, and the index of the right one."""
    facts = prose.facts(rng, 4)
    right = rng.randrange(4)
    return f"{facts[right].statement} Who owns the {facts[right].thing}?", [fact.who for fact in facts], right


def arc_row(rng: random.Random) -> Row:
    """Return a question of ARC."""
    question, choices, right = _choices(rng)
    name = f"made-{rng.getrandbits(32):08x}"
    return {
        "id": name,
        "question": question,
        "choices": {"text": choices, "label": [*"ABCD"]},
        "answerKey": "ABCD"[right],
    }


def mmlu_row(rng: random.Random, name: str) -> Row:
    """Return a question of a subject of MMLU."""
    question, choices, right = _choices(rng)
    return {"question": question, "subject": name, "choices": choices, "answer": right}


def hellaswag_row(rng: random.Random) -> Row:
    """Return a beginning of HellaSwag, whose right ending has the same thing."""
    thing, *others = rng.sample(prose.THINGS, 4)
    endings = [f"puts the {x} on the table and sits down." for x in [thing, *others]]
    rng.shuffle(endings)
    right = next(i for i, x in enumerate(endings) if thing in x)
    trade, first = rng.choice(prose.TRADES), f"The {rng.choice(prose.TRADES)} lifts the {thing} with both hands."
    return {
        "ind": rng.randrange(10**6), "activity_label": f"Work of a {trade}", "ctx_a": first, "ctx_b": "then the man",
        "ctx": f"{first} then the man", "endings": endings, "source_id": "made", "split": "val",
        "split_type": "indomain", "label": str(right),
    }  # fmt: skip


def winogrande_row(rng: random.Random) -> Row:
    """Return a sentence of WinoGrande with a gap for one of two people."""
    giver, receiver = rng.sample(prose.FIRST, 2)
    thing = rng.choice(prose.THINGS)
    options, answer = ([giver, receiver], "2") if rng.randrange(2) else ([receiver, giver], "1")
    text = f"{giver} gave the {thing} to {receiver}, so now _ has the {thing}."
    return {"sentence": text, "option1": options[0], "option2": options[1], "answer": answer}


def gsm8k_row(rng: random.Random) -> Row:
    """Return a word problem of GSM8K: a sum."""
    who, thing = rng.choice(prose.FIRST), rng.choice(prose.THINGS)
    a, b = rng.randint(2, 40), rng.randint(2, 40)
    question = f"{who} has {a} {thing}s and buys {b} more. How many {thing}s does {who} have now?"
    return {"question": question, "answer": f"{who} has {a} + {b} = <<{a}+{b}={a + b}>>{a + b} {thing}s.\n#### {a + b}"}


def truthfulqa_row(rng: random.Random) -> Row:
    """Return a question of TruthfulQA; the choices of mc1 begin with the right one, and of mc2 several are right."""
    fact, *others = prose.facts(rng, 4)
    right = [f"{fact.who} does.", f"It is owned by {fact.who}."]
    wrong = [f"{other.who} does." for other in others]
    return {
        "question": f"{fact.statement} Who owns the {fact.thing}?",
        "mc1_targets": {"choices": [right[0], *wrong], "labels": [1, 0, 0, 0]},
        "mc2_targets": {"choices": [*right, *wrong], "labels": [1, 1, 0, 0, 0]},
    }


MAKERS: dict[str, Callable[[random.Random], Row]] = {
    "arc_challenge": arc_row, "hellaswag": hellaswag_row, "winogrande": winogrande_row, "gsm8k": gsm8k_row,
}  # fmt: skip
