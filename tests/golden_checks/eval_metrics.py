"""Golden check of scores: .jsonl files, each line the score of one answer or task by the benchmarks' code."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from golden_checks.common import Result
from golden_checks.exact_case import failure
from longjax.evals import longbench, manyshot
from longjax.evals.longbench.scoring import first_lines, score_shares
from longjax.evals.longbench.table import TASKS
from longjax.evals.metrics import chinese, needle, rouge_stemmed, ruler
from longjax.evals.metrics.classification import classification
from longjax.evals.metrics.code import code_sim
from longjax.evals.metrics.count_retrieval import count, retrieval, retrieval_zh
from longjax.evals.metrics.porter import stem
from longjax.evals.metrics.qa import f1_zh, normalize, qa_f1, qa_f1_zh
from longjax.evals.metrics.rouge import rouge_l, rouge_zh

Row = dict[str, Any]
Lists = Mapping[str, list[str]]  # of classes, by name
Checked = Iterator[tuple[str, Any, Any]]  # what it is, ours, theirs
LISTS = "class_lists"
TOLERANCE = 1e-9  # ours are the same sums in float64, perhaps in another order
PREFIX = "longbench_"


def is_metrics(folder: Path) -> bool:
    return (folder / f"{LISTS}.jsonl").exists()


def results(folder: Path) -> Iterator[Result]:
    """Check every row of every file; one that cannot be read fails, and the others are still checked."""
    lists = {row["name"]: row["classes"] for row in map(json.loads, lines(folder / f"{LISTS}.jsonl"))}
    for path in sorted(folder.glob("*.jsonl")):
        left_out = 0
        for number, line in enumerate(lines(path), 1):
            try:
                row = json.loads(line)
                left_out += not scorable(row)
                if scorable(row):
                    yield from compared(path.stem, str(row.get("id", number)), FILES[path.stem](row, lists))
            except Exception as error:
                yield failure(path.stem, f"line {number}", f"{type(error).__name__}: {error}")
        if left_out:
            logging.warning("%s: %d rows of Chinese tasks are not checked, as jieba is not installed", path, left_out)


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").split("\n") if line]


def scorable(row: Row) -> bool:
    """Whether a row can be scored: whole Chinese tasks need jieba; single answers come with their words."""
    metric = TASKS[row["dataset"]].metric if row.get("dataset") in TASKS else None
    return chinese.can_segment() or metric not in (qa_f1_zh, rouge_zh)


def compared(family: str, case: str, checked: Checked) -> Iterator[Result]:
    some = False
    for what, ours, theirs in checked:
        some = True
        yield Result(family, case, distance(ours, theirs), TOLERANCE, f"{what} is {ours!r}, not {theirs!r}"[:200])
    if not some:
        yield failure(family, case, "nothing of this row was checked")


def distance(x: Any, y: Any) -> float:
    """Return the difference of numbers; of other values 0 if they are equal, else infinity."""
    if isinstance(x, int | float) and isinstance(y, int | float):
        return abs(x - y)
    return 0.0 if x == y else float("inf")


def single(metric: Callable[[str, str], float]) -> Callable[[Row, Lists], Checked]:
    def check(row: Row, lists: Lists) -> Checked:
        del lists
        yield "score", metric(row["prediction"], row["reference"]), row["expected"]

    return check


def qa(row: Row, lists: Lists) -> Checked:
    yield from single(qa_f1)(row, lists)
    for side in ("prediction", "reference"):
        yield side, normalize(row[side]), row[f"normalized_{side}"]


def qa_zh(row: Row, lists: Lists) -> Checked:
    yield "score", f1_zh(row["jieba_prediction"], row["jieba_reference"]), row["expected"]
    yield from segmented(qa_f1_zh, row, lists)


def rouge_chinese(row: Row, lists: Lists) -> Checked:
    yield "score", rouge_l(" ".join(row["jieba_prediction"]), " ".join(row["jieba_reference"])), row["expected"]
    yield from segmented(rouge_zh, row, lists)


def segmented(metric: Callable[[str, str], float], row: Row, lists: Lists) -> Checked:
    if chinese.can_segment():
        yield from single(metric)(row, lists)
        for side in ("prediction", "reference"):
            yield f"words of the {side}", chinese.segment(row[side]), row[f"jieba_{side}"]


def classes(row: Row, lists: Lists) -> Checked:
    named = class_names(row["all_classes"], lists)
    yield "score", classification(row["prediction"], row["reference"], named or ()), row["expected"]


def class_names(text: Any, lists: Lists) -> list[str] | None:
    return lists[text] if isinstance(text, str) else text


def class_list(row: Row, lists: Lists) -> Checked:
    yield "length", len(set(lists[row["name"]])), len(row["classes"])
    if row["name"] == "@TREC50":
        yield "names", list(manyshot.NAMES.values()), row["classes"]


def answers(task: str, row: Row, lists: Lists) -> list[Row]:
    """Return the records of a task."""
    sides = zip(row["predictions"], row["answers"], row.get("lengths", [0] * len(row["answers"])), strict=True)
    named = class_names(row["all_classes"], lists)
    return [
        {"task": task, "prediction": p, "answers": a, "all_classes": named, "length": n, "n_truncated": 0}
        for p, a, n in sides
    ]


def dataset(row: Row, lists: Lists) -> Checked:
    """Check the scores of both scorers, also by length, and of single answers."""
    name = row["dataset"]
    records = answers(f"longbench/{name}", row, lists)
    (got,) = longbench.score(records)
    yield "score", percent(got["value"]), row["expected_longbench"]
    yield "score by length", percents(got["by_length"]), row["expected_longbench_e"]
    yield "the study's score", percent(got["lceg"]), row["expected_lceg"]
    theirs = dict(row["expected_lceg_by_length"])
    yield "the study's total", percent(got["lceg"]), theirs.pop("total_score")
    counts = {f"#{name}": n for name, n in got["lceg_n_by_length"].items()}
    yield "the study's score by length", percents(got["lceg_by_length"]) | counts, theirs
    ours_I = score_shares(name, records, first_lines(name)[1])
    yield "examples", float(np.abs(ours_I - np.array(row["per_example_lceg"])).max()), 0.0


def percent(share: float) -> float:
    return round(100 * share, 2)


def percents(shares: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if share is None else percent(share) for name, share in shares.items()}


def trec(row: Row, lists: Lists) -> Checked:
    shots = int(row["dataset"].removeprefix("trec_").removesuffix("shots"))
    metadata = {"shots": shots, "n_prompt_tokens": 1}
    (got,) = manyshot.score([record | metadata for record in answers(f"manyshot/trec_{shots}", row, lists)])
    yield "score", percent(got["value"]), row["expected"]


def ruler_single(row: Row, lists: Lists) -> Checked:
    del lists
    text = ruler.cleaned(row["raw_prediction"])
    yield "text", text, row["postprocessed"]
    for name, match in MATCHES.items():
        yield name, percent(match(text, row["references"])), row[name]


MATCHES = {"string_match_all": ruler.string_match_all, "string_match_part": ruler.string_match_part}


def ruler_batch(row: Row, lists: Lists) -> Checked:
    del lists
    for name, match in MATCHES.items():
        share = [match(text, wanted) for text, wanted in zip(row["predictions"], row["references"], strict=True)]
        yield name, percent(float(np.mean(share))), row[name]


def niah(row: Row, lists: Lists) -> Checked:
    del lists
    text = row["response"]
    yield "ROUGE-1", 10 * rouge_stemmed.rouge_1(text, needle.STUDY_NEEDLE), row["rouge1_f_x10"]
    yield "ROUGE-L", rouge_stemmed.rouge_l(text, needle.STUDY_NEEDLE), row["rougeL_f"]
    yield "word overlap", needle.word_overlap(text), row["heatmap_word_overlap"]


def porter(row: Row, lists: Lists) -> Checked:
    del lists
    yield "stem", stem(row["word"]), row["stem"]


FILES: Mapping[str, Callable[[Row, Lists], Checked]] = {
    LISTS: class_list,
    f"{PREFIX}qa_f1": qa,
    f"{PREFIX}qa_f1_zh": qa_zh,
    f"{PREFIX}rouge": single(rouge_l),
    f"{PREFIX}rouge_zh": rouge_chinese,
    f"{PREFIX}count": single(count),
    f"{PREFIX}retrieval": single(retrieval),
    f"{PREFIX}retrieval_zh": single(retrieval_zh),
    f"{PREFIX}classification": classes,
    f"{PREFIX}code_sim": single(code_sim),
    f"{PREFIX}dataset_score": dataset,
    "manyshot_trec_score": trec,
    "ruler_single": ruler_single,
    "ruler_batch": ruler_batch,
    "niah_score": niah,
    "porter_stem": porter,
}
