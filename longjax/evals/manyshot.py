"""Many-shot classification: types of TREC's questions (Li and Roth, 2002), as in the study (arXiv:2409.12181).

The study's files are used where they are there. How their examples were drawn is not known; ours are drawn here.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from absl import logging

from longjax.evals.context import EvalContext
from longjax.evals.longbench.examples import SCHEMA, examples
from longjax.evals.longbench.scoring import data_quality, mean_score, score_shares
from longjax.evals.longbench.tasks import prompts_id, prompts_of, record_metadata
from longjax.evals.longbench.truncation import truncate_to_lengths
from longjax.evals.requests import GenerationRequest, Record, Task
from longjax.files import read_text, sha256_file

KIND = "trec"  # the task of LongBench that this is, with more examples
NAMES = {  # TREC's fine classes by the names that LongBench gives them, in its order; one is misspelt there
    "ENTY:food": "Food", "NUM:date": "Date", "NUM:ord": "Order, rank", "NUM:speed": "Speed",
    "ENTY:dismed": "Disease and medicine", "ENTY:word": "Word with a special property", "ABBR:abb": "Abbreviation",
    "ENTY:lang": "Language", "ENTY:letter": "Letter like a-z", "ENTY:other": "Other entity", "ENTY:animal": "Animal",
    "ABBR:exp": "Expression abbreviated", "NUM:money": "Price", "ENTY:techmeth": "Techniques and method",
    "ENTY:instru": "Musical instrument", "LOC:mount": "Mountain", "ENTY:currency": "Currency name",
    "ENTY:event": "Event", "ENTY:product": "Product", "LOC:state": "State", "HUM:ind": "Individual",
    "ENTY:body": "Organ of body", "DESC:reason": "Reason", "DESC:manner": "Manner of an action", "LOC:city": "City",
    "ENTY:religion": "Religion", "ENTY:cremat": "Invention, book and other creative piece",
    "NUM:dist": "Distance, linear measure", "NUM:temp": "Temperature", "NUM:code": "Postcode or other code",
    "NUM:volsize": "Size, area and volume", "ENTY:sport": "Sport", "LOC:country": "Country",
    "LOC:other": "Other location", "NUM:period": "Lasting time of somethin", "ENTY:termeq": "Equivalent term",
    "DESC:desc": "Description of something", "NUM:weight": "Weight", "ENTY:veh": "Vehicle", "ENTY:color": "Color",
    "NUM:other": "Other number", "DESC:def": "Definition of something", "ENTY:substance": "Element and substance",
    "HUM:desc": "Description of a person", "ENTY:symbol": "Symbols and sign", "NUM:count": "Number of something",
    "ENTY:plant": "Plant", "NUM:perc": "Percent, fraction", "HUM:gr": "Group or organization of person",
    "HUM:title": "Title of a person",
}  # fmt: skip
LABELS = 'lines like "LOC:city What city had a world fair in 1900 ?"'
SOURCE = "cogcomp.seas.upenn.edu/Data/QA/QC (train_5500.label, TREC_10.label)"


@dataclasses.dataclass(frozen=True)
class ManyShot:
    """Many-shot classification with several numbers of examples."""

    manyshot_shots: str = "1,5,10,25,50,75,100,200,300,400,500,625,750,875,1000"  # comma-separated numbers of examples
    manyshot_per_item: bool = False  # draw other examples for each question; not for the study's own files

    def tasks(self, ctx: EvalContext) -> list[Task]:
        """Return a task for each number of examples. Raises ValueError for files of the user."""
        return [self.task(ctx, shots) for shots in parse_shots(self.manyshot_shots)]

    def task(self, ctx: EvalContext, shots: int) -> Task:
        """Return the task with this number of examples."""
        path = ctx.data_dir / "manyshot" / f"trec_{shots}shots.jsonl"
        if path.exists():
            records, bad = examples(ctx, path, KIND)
            settings: Record = {"examples": "file", "data": sha256_file(path)}
        else:
            records, bad, settings = self.drawn(ctx, shots)
        (prompt,) = prompts_of(ctx, {KIND}).values()
        requests = []
        for i, record in enumerate(records):
            text = prompt.template.format(context=record["context"], input=record["input"])
            ids, n_truncated = truncate_to_lengths(ctx, text, prompt.max_new_tokens)
            metadata = record_metadata(record, i) | {"shots": shots, "n_truncated": n_truncated}
            requests.append(GenerationRequest(ids, metadata, prompt.max_new_tokens))
        settings |= {"shots": shots, "prompts": prompts_id(ctx), "max_length": max(ctx.lengths), "bad_lines": bad}
        return Task(f"manyshot/trec_{shots}", requests, settings)

    def drawn(self, ctx: EvalContext, shots: int) -> tuple[list[Record], int, Record]:
        """Return examples in LongBench's schema, number of bad lines, settings. Fewer shots are the first of more."""
        paths = [label_file(ctx, name, shots) for name in ("train", "test")]
        (train, bad_train), (test, bad_test) = (labeled_questions(path, ctx.skip_bad) for path in paths)
        known = {question for question, _ in train}
        unseen = [item for item in test if item[0] not in known]  # TREC itself has ten of its tests in its training set
        left_out = len(test) - len(unseen)
        if left_out:
            logging.warning("%s: %d questions are left out, as %s has them, too", paths[1], left_out, paths[0])
        if len(train) < shots:
            raise ValueError(f"--manyshot_shots={shots}: {paths[0]} has {len(train)} questions")
        records = [
            example(train, order[:shots], *question)
            for order, question in zip(self.orders(ctx.seed, len(train)), unseen[: ctx.max_examples], strict=False)
        ]
        drawing = "per item" if self.manyshot_per_item else "same for all"
        data = {path.name: sha256_file(path) for path in paths}
        settings = {"examples": drawing, "seed": ctx.seed, "data": data, "left_out_as_known": left_out}
        return records, bad_train + bad_test, settings

    def orders(self, seed: int, count: int) -> Iterable[np.ndarray]:
        """Yield for each question the order in which training examples are taken."""
        item = 0
        while True:
            yield np.random.default_rng((seed, item)).permutation(count)
            item += self.manyshot_per_item


def parse_shots(value: str) -> list[int]:
    """Return the numbers of examples that --manyshot_shots lists, each once. Raises ValueError for anything else."""
    try:
        shots = [int(word) for word in value.split(",")]
    except ValueError as error:
        raise ValueError(f"--manyshot_shots={value} must be whole numbers with commas between") from error
    if min(shots) < 1:
        raise ValueError(f"--manyshot_shots={value}: {min(shots)} must be at least 1")
    return list(dict.fromkeys(shots))


def label_file(ctx: EvalContext, name: str, shots: int) -> pathlib.Path:
    """Return the path of TREC's train or test file. Raises ValueError if it is missing."""
    holds = f"examples of questions, {LABELS}, or trec_{shots}shots.jsonl, {SCHEMA}"
    return ctx.find_file(
        [f"manyshot/{name}.label"], holds, f"{SOURCE} or huggingface.co/datasets/Leooyii/manyshots_trec"
    )


def labeled_questions(path: pathlib.Path, skip_bad: bool) -> tuple[list[tuple[str, str]], int]:
    """Return (question, name of its type) of each line, and the number of lines that were left out."""
    good, bad = [], 0
    for number, line in enumerate(read_text(path, fallback="latin-1").split("\n"), 1):
        label, _, question = line.strip().partition(" ")
        if label in NAMES and question.strip():
            good.append((question.strip(), NAMES[label]))
        elif label:
            message = f"{path}, line {number}: {label[:40]!r} is no type with a question; it needs {LABELS}"
            if not skip_bad:
                raise ValueError(f"{message} (--skip_bad leaves such lines out)")
            logging.warning("%s; left out", message)
            bad += 1
    if not good:
        raise ValueError(f"{path} is empty: it needs {LABELS}")
    return good, bad


def example(train: Sequence[tuple[str, str]], chosen: np.ndarray, question: str, name: str) -> Record:
    """Return a question after chosen training examples, in LongBench's schema."""
    context = "\n".join(f"Question: {train[i][0]}\nType: {train[i][1]}" for i in chosen)
    return {
        "input": f"Question: {question}\nType:", "context": context, "answers": [name],
        "length": len(context.split()), "all_classes": list(NAMES.values()),
    }  # fmt: skip


def score(records: Sequence[Record]) -> list[Record]:
    """Return the row of a task, which has one number of examples."""
    tokens = float(np.mean([record["n_prompt_tokens"] for record in records]))
    row = {"benchmark": "manyshot", "task": records[0]["task"].split("/")[1], "length": None}
    row |= mean_score(score_shares(KIND, records, first_line=True))
    return [row | {"shots": records[0]["shots"], "prompt_tokens": tokens} | data_quality(records)]
