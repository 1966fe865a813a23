"""Golden check of perplexity: a folder of a tiny LLaMA, tokens.bin and expected.jsonl, a line a protocol and length.

The losses are our model's, so that the check covers windows, what of them is scored, and how it is averaged.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from golden_checks.common import Result
from golden_checks.exact_case import failure
from longjax.checkpoints.pretrained import load, open_checkpoint
from longjax.evals.perplexity import EvalText, PerplexityTest, score
from longjax.evals.perplexity.protocols import spans
from longjax.evals.requests import LoglikelihoodRequest, LoglikelihoodResult, Record, Request, Task
from longjax.inference.score import Scorer
from longjax.model.llama import Llama

EXPECTED = "expected.jsonl"
LOSS = 1e-6  # relative: the peer's means are sums in float32, whose steps are 5e-7 at a loss of 6
POSITION = 5e-6  # relative, of single positions: means of few losses, each a difference of float32 logits
PPL = 2e-6  # relative; 2.71828 for e would make 4e-6


def is_ppl(folder: Path) -> bool:
    return (folder / EXPECTED).exists() and (folder / "tokens.bin").exists()


def results(folder: Path) -> Iterator[Result]:
    """Check every row of the file; one that cannot be read fails, and the others are still checked."""
    model = Model(folder)
    for line in (folder / EXPECTED).read_text().splitlines():
        case = family = "?"
        try:
            row = json.loads(line)
            case = str(row["id"])
            family = f"ppl_{row['protocol']}"
            yield from (Result(family, case, *numbers) for numbers in ROWS[row["protocol"]](row, model))
        except Exception as error:
            yield failure(family, case, f"{type(error).__name__}: {error}")


class Model:
    """The folder's model and text; scores are cached."""

    def __init__(self, folder: Path):
        checkpoint = open_checkpoint(folder, dtype="float32")
        self.score = Scorer(Llama(checkpoint.cfg, checkpoint.method), load(checkpoint.tensors, checkpoint.cfg))
        ids = np.fromfile(folder / "tokens.bin", "<u2").astype(np.int32)
        self.text = EvalText("tokens", ids, np.flatnonzero(ids == ids[0]), True, "", str(folder / "tokens.bin"))
        self.known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def ask(self, questions: Sequence[Request]) -> list[LoglikelihoodResult]:
        """Score requests one by one, as the peers do with batches of one."""
        found = []
        for question in questions:
            assert isinstance(question, LoglikelihoodRequest)
            nll_T, hit_T = self.whole(question.tokens_T)
            found.append(LoglikelihoodResult(nll_T[question.first_scored :], hit_T[question.first_scored :]))
        return found

    def whole(self, tokens_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = tokens_T.tobytes()
        if key not in self.known:
            with jax.default_matmul_precision("highest"):
                nll_BT, hit_BT = self.score(tokens_T[None], np.array([len(tokens_T)]))
            self.known[key] = nll_BT[0], hit_BT[0]
        return self.known[key]

    def records(self, task: Task) -> list[Record]:
        answers = zip(task.requests, self.ask(task.requests), strict=True)
        return [{**question.metadata, **task.to_record(question, answer)} for question, answer in answers]


class Numbers(NamedTuple):
    error: float
    tolerance: float
    note: str


def relative(got: Any, want: Any, tolerance: float, note: str) -> Numbers:
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    error = float(np.max(np.abs(got / want - 1))) if got.shape == want.shape else np.inf
    return Numbers(error, tolerance, note)


def equal(got: Any, want: Any, note: str) -> Numbers:
    return Numbers(float(got != want), 0.0, note)


def sliding(row: dict[str, Any], model: Model) -> Iterator[Numbers]:
    """Check `lceg` and `longlora`."""
    length, batch = row["seq_len"], row["batch_size"]
    test = PerplexityTest(row["protocol"], ppl_stride=row["stride"], ppl_buckets=length - 1)
    (task,) = test.tasks_of(model.text, [length])
    records = model.records(task)
    whole, *places = score(records)
    loss_I = np.array([record["nll"] / record["n"] for record in records])
    yield equal(len(records), row["n_windows"], "number of windows")
    yield from of_text(row, model.text)
    if "window_starts" in row:
        yield equal([record["start"] for record in records], row["window_starts"], "where windows start")
        yield relative(loss_I, row["per_window_mean_nll"], LOSS, "loss of each window")
        yield relative(whole["nll"], row["mean_of_window_means"], LOSS, "loss of all windows")
    if "mean_nll_by_position" in row:
        got = [place["value"] for place in places]
        yield relative(got, row["mean_nll_by_position"], POSITION, "loss by position")
    if batch == 1:
        yield relative(whole["nll"], row["expected_val_loss"], LOSS, "val_loss")
        yield relative(whole["lceg"], row["expected_val_perplexity"], PPL, "val_perplexity")
        for chunk in row.get("expected_ppl_per_chunk", []):
            yield relative(whole["value"], chunk, PPL, "val_perplexity_per_chunk")
    cuts = range(batch, len(records), batch)  # a ragged last batch weighs as much as a full one; ours is batch 1
    loss = np.mean([part.mean() for part in np.split(loss_I, cuts)])
    accuracy = np.mean([part.sum() for part in np.split(accuracies(task, model), cuts)])
    yield relative(loss, row["expected_val_loss"], LOSS, "val_loss, mean of batches")
    yield relative(accuracy, row["expected_val_acc"], 1e-6, "val_acc, a float32")


def of_text(row: dict[str, Any], text: EvalText) -> Iterator[Numbers]:
    yield equal(len(text.ids), row["n_tokens_file"], "tokens of the file")
    if "n_docs_in_file" in row:
        yield equal(len(text.starts), row["n_docs_in_file"], "documents of the file")
        yield equal(int(text.starts[10]), row["n_tokens_first10docs"], "tokens of ten documents")


def accuracies(task: Task, model: Model) -> np.ndarray:
    """Return val_acc of each window: it has a target past its end, and is divided by its length."""
    found = []
    for question in task.requests:
        start, length = question.metadata["start"], len(question.tokens_T)
        _, hit_S = model.whole(model.text.ids[start : start + length + 1])
        found.append(hit_S.sum() / length)
    return np.array(found)


def yarn(row: dict[str, Any], model: Model) -> Iterator[Numbers]:
    begin, length = 1 if row["add_start_token"] else -1, row["seq_len"]
    test = PerplexityTest("yarn", ppl_stride=row["stride"], ppl_documents=3, ppl_truncate=row["truncate"])
    (task,) = test.tasks_of(model.text, [length], begin)
    whole, *_ = score(model.records(task))
    bodies = [ids[1:] for _, ids in model.text.documents(3)]
    room = length - (begin >= 0)
    sizes = [min(len(ids), room) if row["truncate"] else len(ids) for ids in bodies]
    triples = [spans(size, room, row["stride"]) for size in sizes]
    yield equal(list(map(list, itertools.chain(*triples))), row["windows_begin_end_scored"], "begin, end, scored")
    yield relative(whole["value"], row["expected_mean_perplexity"], PPL, "mean_perplexity")


ROWS = {"lceg": sliding, "longlora": sliding, "yarn": yarn}
